#!/usr/bin/env node
/**
 * The command line begins here. Only this file ends the process; errors a user can mend are one line, without a stack.
 */
import { Command, CommanderError } from 'commander';
import { PACKAGE } from '../bundled.ts';
import { FormatError, UnsupportedError } from '../node.ts';
import { meantBy } from '../options.ts';
import { chatCommand } from './chat.ts';
import { demoCommand } from './demo.ts';
import { evalCommand } from './eval.ts';
import { inspectCommand } from './inspect.ts';
import { pageCommand } from './page.ts';
import { readCommand } from './read.ts';
import { runCommand } from './run.ts';
import { serveCommand } from './serve.ts';
import { note, visible } from './terminal.ts';

const { version, description } = PACKAGE;

const program = new Command('dualchunk')
  .description(description)
  .version(version)
  .addCommand(runCommand())
  .addCommand(chatCommand())
  .addCommand(readCommand())
  .addCommand(serveCommand())
  .addCommand(pageCommand())
  .addCommand(inspectCommand())
  .addCommand(demoCommand())
  .addCommand(evalCommand())
  .addHelpText(
    'after',
    `
Examples:
  $ dualchunk demo
  $ dualchunk run model.gguf -f book.txt --take 12k -p "Who keeps a journal in this text?"
  $ dualchunk read model.gguf -f book.txt -o book.kv
  $ dualchunk chat model.gguf --session book.kv
  $ dualchunk serve model.gguf
  $ dualchunk inspect model.gguf --context 64k
  $ dualchunk eval perplexity --model model.gguf --text book.txt --lengths 1k,4k,16k --methods none,ntk,dca
  $ dualchunk help run`,
  );

// A reader that has seen enough, `dualchunk run … | head`, closes the pipe.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  note(`dualchunk: cannot write to standard output (${error.code})`);
  process.exit(1);
});
// Where notes cannot be written, the answer is still wanted.
process.stderr.on('error', () => {});

/**
 * Adds to what commander says of a wrong line: the flag that is meant by one of another program, and where texts go.
 */
function advised(command: Command, text: string): string {
  if (/^error: too many arguments for '(run|chat)'/.test(text)) {
    const ask = command.name() === 'run' ? 'the prompt goes behind -p, in quotes, and ' : '';
    return `${text.trimEnd()}\n(${ask}every text behind a -f of its own)\n`;
  }
  const flag = /^error: unknown option '(-[^'=]*)/.exec(text)?.[1];
  if (flag === undefined || flag.startsWith('--he')) return text;
  const names = command.options.map((option) => option.attributeName());
  const meant = command.options[names.indexOf(meantBy(flag, names) ?? '')]?.long;
  return meant ? `${text.split('\n')[0]}\n(Did you mean ${meant}?)\n` : text.replace('(Did you mean --help?)\n', '');
}

/** Errors are thrown, as an end of the process would come before what was written is known to have arrived. */
function settle(command: Command): void {
  command.exitOverride();
  command.configureOutput({
    writeErr: (text) => process.stderr.write(visible(text)),
    outputError: (text, write) => write(advised(command, text)),
  });
  command.showHelpAfterError('(--help shows what is possible)');
  for (const sub of command.commands) settle(sub);
}
settle(program);

/** Ends the process once everything written has arrived, or was found not to have. Open pipes would keep it. */
const end = (code: number) =>
  process.stdout.write('', () => process.stderr.write('', () => setImmediate(() => process.exit(code))));

try {
  const [command, topic] = process.argv.slice(2);
  if (command === 'help' && topic !== undefined && !program.commands.some((sub) => sub.name() === topic)) {
    program.error(`error: unknown command '${topic}'`);
  }
  await program.parseAsync();
  end(Number(process.exitCode ?? 0));
} catch (error) {
  end(report(error));
}

/** Says what went wrong. Returns the exit code. */
function report(error: unknown): number {
  if (error instanceof CommanderError) return error.exitCode;
  const { message, stack, code, cause } = error as NodeJS.ErrnoException;
  const causeCode = (cause as NodeJS.ErrnoException | undefined)?.code;
  if ([code, causeCode].includes('ERR_SCRIPT_EXECUTION_INTERRUPTED')) {
    note('interrupted');
    return 130;
  }
  const isExpected = error instanceof FormatError || error instanceof UnsupportedError;
  note(`dualchunk: ${isExpected ? message : `unexpected fault\n${stack}`}`);
  return 1;
}
