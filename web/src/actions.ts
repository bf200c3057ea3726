/** What a user can do. Each action ends with what is known changed, or with a fault in words; nothing that was read is lost over it. */
import { batch } from '@preact/signals';
import { Conversation, FormatError, trainedWindow, UnsupportedError } from 'dualchunk';
import type { RemoteModel } from 'dualchunk/browser';
import { currently, forgetPlain } from './asking.ts';
import { BUNDLED_BOOK, BUNDLED_MODEL } from './bundled.ts';
import { begun, guarded, models, reported, running, whenLost } from './doing.ts';
import { hideKeys, KEYS_ROOM } from './passKeys.ts';
import { BACKEND, findPlace } from './place.ts';
import type { AboutSession, Method, Opened, Origin, SessionText, Text } from './state.ts';
import * as state from './state.ts';
import { placeInWords } from './words.ts';

export const BUNDLED: Origin = { kind: 'bundled', name: 'books-16m' };

/** Tokens that question and answer may have behind a text: of a chat, and of a model that only goes on. */
const ROOM = { chat: 768, plain: 96 };
/** Contexts that are offered, in tokens. */
export const CONTEXTS = [1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072];

export async function begin(): Promise<void> {
  whenLost(restart);
  await reported(findPlace);
  await refreshKept();
}

/** Asks that the browser does not throw away what is kept; it may say no. */
const askToKeep = async () => void (await navigator.storage?.persist?.());

// --- models ---

export const openBundled = (): Promise<void> => guarded(async () => show(BUNDLED, await bundled()));
export const openFile = (file: File): Promise<void> => guarded(() => show({ kind: 'file', name: file.name }, file));
export const openKept = (name: string): Promise<void> =>
  guarded(async () => show({ kind: 'kept', name }, await models.storage.open(name)));

/** Downloads a model, or the rest of it, and keeps it. */
export const openAddress = (address: string): Promise<void> =>
  guarded(async () => {
    if (!URL.canParse(address))
      throw new UnsupportedError(`"${address}" is no address; wanted one such as https://host/model.gguf`);
    await askToKeep();
    const { storage } = models;
    const file = await running('downloading', (options) => storage.download(address, options), refreshKept);
    await show({ kind: 'kept', name: file.name }, file);
  });

/** Keeps a file that was chosen, so that it is here without being chosen again. */
export const keepFile = (file: File): Promise<void> =>
  guarded(async () => {
    await askToKeep();
    await running('keeping', (options) => models.storage.keep(file.name, file, options), refreshKept);
  });

export const remove = (name: string): Promise<void> =>
  guarded(async () => {
    await models.storage.remove(name);
    await refreshKept();
  });

/** Says what the model would take, before it is loaded. */
export async function choose(context: number, method: Method): Promise<void> {
  batch(() => {
    state.context.value = context;
    state.method.value = method;
  });
  await reported(async () => {
    state.plan.value = await state.opened.value?.file.memoryPlan(context);
  });
}

/** Loads the chosen model, and goes on with the text that is there. */
export const load = (): Promise<void> => guarded(() => loadAndRead());

/** Loads the model again with a larger context, and reads more of the text. */
export const readMore = (context: number): Promise<void> =>
  guarded(async () => {
    const { origin, source } = currently().opened;
    if (state.opened.value !== state.loaded.value) await show(origin, source);
    await loadAndRead(context);
  });

// --- texts ---

export const readBundledBook = (): Promise<void> =>
  guarded(async () => {
    const response = await fetch(BUNDLED_BOOK);
    if (!response.ok) throw new FormatError(`${BUNDLED_BOOK}: the server answered ${response.status}; reload the page`);
    await take({ title: 'Dracula', text: await response.text() });
  });

/** Reads a file that was dropped or chosen; parsers come when they are wanted. */
export const readFile = (file: File): Promise<void> =>
  guarded(async () => {
    const { textOf } = await import('./documents.ts');
    await take(await textOf(file));
  });

/** Reads on from where it was stopped. */
export const goOn = (): Promise<void> => guarded(read);

// --- sessions ---

export const save = (): Promise<void> =>
  guarded(async () => {
    const { text, opened, conversation, model } = currently();
    await askToKeep();
    const about = { title: text.title, origin: opened.origin };
    await running('saving', async (options) => {
      const { signal } = options;
      const head: SessionText = { ...about, text: text.text, keys: text.keys };
      const session = await conversation.clone().read({ signal, about: head });
      const record: AboutSession = { ...about, nTokens: session.tokens.length };
      const name = `${text.title}, ${session.tokens.length} tokens, ${opened.origin.name}, ${model.method.name}`;
      await models.storage.keep(name, session, { ...options, about: record });
    });
    await refreshKept();
  });

export const reopen = (name: string): Promise<void> =>
  guarded(async () => {
    const file = await models.openSession(await models.storage.open(name));
    try {
      const { head } = file;
      const about = state.sessionText(head);
      if (!about) throw new FormatError(`${name}: it is not from this page; open it with dualchunk run --session`);
      const { origin } = about;
      const isOpen = state.opened.value?.origin.name === origin.name;
      const isKept = state.keptModels.value.some(({ name, isWhole }) => isWhole && name === origin.name);
      if (!isOpen && !isKept && origin.kind === 'file') {
        throw new UnsupportedError(
          `it was read by ${origin.name}, which is not kept here; choose that file, then reopen this`,
        );
      }
      if (!isOpen) await show(origin, await found(origin));
      const [backend] = head.cache.split(' ') as ['wasm' | 'webgpu'];
      await loadModel({ context: head.context, method: head.method.split(' ')[0], backend });
      const { text, keys, title } = about;
      state.text.value = { text, keys, title, isCut: false };
      const model = state.model.value as RemoteModel;
      const session = await running('opening', (options) => model.loadSession(file, options));
      batch(() => {
        state.conversation.value = new Conversation(model, { text });
        const total = session.tokens.length;
        state.reading.value = { state: 'read', done: total, total, speed: 0 };
        state.exchanges.value = [];
      });
    } finally {
      await file.close();
    }
  });

// --- internal ---

async function refreshKept(): Promise<void> {
  try {
    const { storage } = models;
    const [kept, room] = [await storage.list(), await storage.room()];
    batch(() => {
      state.kept.value = kept;
      state.room.value = room;
    });
  } catch {} // a private window keeps nothing; what wants to keep something says so
}

/** The bundled model, which is kept at its first use, so that it is there without a network. */
async function bundled(): Promise<File | string> {
  const { storage } = models;
  try {
    const more = { name: BUNDLED.name };
    return await running(
      'bringing the model',
      (options) => storage.download(BUNDLED_MODEL, { ...options, ...more }),
      refreshKept,
    );
  } catch (error) {
    if (error instanceof UnsupportedError) return BUNDLED_MODEL; // nothing can be kept here
    throw error;
  }
}

const found = (origin: Origin) => (origin.kind === 'bundled' ? bundled() : models.storage.open(origin.name));

/** Opens a model and says what it is; what was loaded goes when another is loaded. */
async function show(origin: Origin, source: string | File): Promise<void> {
  const file = await models.openModel(source);
  const window = trainedWindow(file.config);
  const isChat = file.tokenizer.chatTemplate !== undefined;
  await state.opened.value?.file.close();
  const context = CONTEXTS.find((one) => one >= 2 * window) ?? window;
  const opened: Opened = { origin, source, file, window, isChat };
  batch(() => {
    state.opened.value = opened;
    state.plan.value = undefined;
  });
  await choose(context, 'auto');
}

async function loadAndRead(context?: number): Promise<void> {
  await loadModel({ context });
  const { title, whole } = state.text.value ?? {};
  if (title !== undefined && whole !== undefined) await take({ title, text: whole });
  else if (title !== undefined) await read();
}

async function loadModel(
  given: { context?: number; method?: string; backend?: 'wasm' | 'webgpu' } = {},
): Promise<void> {
  const { opened } = state;
  if (!opened.value) throw new UnsupportedError('no model is chosen; choose one');
  const { context = state.context.value, backend = BACKEND } = given;
  const method = given.method ?? (state.method.value === 'auto' ? undefined : state.method.value);
  await forgetPlain();
  await state.model.value?.dispose().catch(() => {});
  batch(() => {
    state.model.value = undefined;
    state.conversation.value = undefined;
    state.reading.value = undefined;
    state.context.value = context;
    state.loaded.value = opened.value;
  });
  const { file } = opened.value;
  const options = { context, backend, ...(method !== undefined && { method }) };
  state.model.value = await running('loading the model', (more) => file.load({ ...options, ...more }));
  const { backendName } = state.model.value;
  state.place.value = { name: placeInWords(backendName), why: state.place.value?.why ?? '' };
}

/**
 * Makes a text the one that is asked about: as much of it as the context holds, with keys where the model only goes on. Without a model
 * it waits for one.
 */
async function take({ title, text }: { title: string; text: string }): Promise<void> {
  const { model, loaded } = state;
  if (!model.value || !loaded.value) {
    batch(() => {
      state.text.value = { title, text, whole: text, keys: [], isCut: false };
      state.exchanges.value = [];
    });
    return;
  }
  const { isChat } = loaded.value;
  const { tokenizer, context } = model.value;
  const most = context - (isChat ? ROOM.chat : ROOM.plain + KEYS_ROOM);
  if (most < 64)
    throw new UnsupportedError(`a context of ${context} tokens leaves no room for a text; load a larger one`);
  const { ids, complete } = await tokenizer.encodePrefix(text, most, { addSpecialTokens: false });
  const fitting = complete ? text : (await tokenizer.decode(ids)).replace(/\uFFFD+$/, '');
  const hidden = isChat ? { text: fitting, keys: [] } : hideKeys(fitting);
  batch(() => {
    const taken: Text = { title, ...hidden, whole: text, isCut: !complete };
    if (state.text.value?.whole !== text) state.exchanges.value = [];
    state.text.value = taken;
    state.conversation.value = undefined;
    state.reading.value = undefined;
  });
  await forgetPlain();
  await read();
}

async function read(): Promise<void> {
  const { model, text } = state;
  if (!model.value || !text.value) throw new UnsupportedError('there is nothing to read; choose a model and a text');
  if (!state.conversation.value) {
    const conversation = new Conversation(model.value, { text: text.value.text });
    // What was said to a model that is gone is known to the next.
    const said = state.exchanges.value.filter(({ state: is, expected }) => is === 'done' && expected === undefined);
    for (const { question, answer } of said) conversation.add(question, answer);
    state.conversation.value = conversation;
  }
  const signal = begun();
  const from = performance.now();
  let [total, found] = [state.reading.value?.total ?? 0, 0];
  const tell = (is: 'reading' | 'read' | 'stopped', done: number, speed = 0) => {
    state.reading.value = { state: is, done, total, speed };
  };
  tell('reading', state.reading.value?.done ?? 0);
  const onProgress = (done: number, rest: number) => {
    total = Math.max(total, rest);
    found = total - rest; // the cache had these
    tell('reading', found + done, done / ((performance.now() - from) / 1000));
  };
  try {
    await state.conversation.value.read({ signal, onProgress });
    tell('read', total, state.reading.value?.speed);
  } catch (error) {
    tell('stopped', state.reading.value?.done ?? 0);
    if (!signal.aborted) throw error;
  }
}

/** Text, questions and answers stay; the model is to be loaded again. */
async function restart(): Promise<void> {
  const before = state.loaded.value ?? state.opened.value;
  const [context, method] = [state.model.value?.context ?? state.context.value, state.method.value];
  batch(() => {
    state.model.value = undefined;
    state.conversation.value = undefined;
    state.reading.value = undefined;
    state.opened.value = undefined;
    state.loaded.value = undefined;
  });
  await forgetPlain();
  if (!before) return;
  await show(before.origin, before.source)
    .then(() => choose(context, method))
    .catch(() => {});
}
