/** A button that lets a file be chosen; the input itself stays, for keyboards and screen readers. */
export function FileButton({
  label,
  accept,
  isDisabled,
  onFile,
}: {
  label: string;
  accept: string;
  isDisabled: boolean;
  onFile: (file: File) => void;
}) {
  return (
    <label class={`button${isDisabled ? ' disabled' : ''}`}>
      {label}
      <input
        type="file"
        class="hidden"
        accept={accept}
        disabled={isDisabled}
        onChange={({ currentTarget }) => {
          const file = currentTarget.files?.[0];
          currentTarget.value = ''; // the same file may be chosen again
          if (file) onFile(file);
        }}
      />
    </label>
  );
}
