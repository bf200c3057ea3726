/** The public API but for what opens a model, which the entries `node.ts` and `web.ts` bind to their platform. */

export { MAX_THREADS } from './backends/wasmScratch.ts';
export type { Source } from './checkpoint/source.ts';
export type { ModelConfig, RopeScaling } from './config.ts';
export { trainedWindow } from './config.ts';
export type { ConversationOptions, Talker, Turn } from './conversation.ts';
export { Conversation, messagesOf } from './conversation.ts';
export type { DualChunk, Parts } from './dualChunk.ts';
export { FormatError, LostError, UnsupportedError } from './errors.ts';
export type { MemoryPlan } from './memoryPlan.ts';
export type { Method } from './method.ts';
export { METHOD_HELP, resolveMethod } from './method.ts';
export type { Model, Piece, Prompt, ReadOptions, SessionSource, TextOptions } from './model.ts';
export type { LoadOptions, ModelFile, PlanningOptions } from './modelFile.ts';
export type { Scale } from './placement.ts';
export type { FileHandle, FileSource, ModelSource } from './platform/platform.ts';
export type { GeneratedToken } from './runtime/texts.ts';
export { DEFAULT_MAX_TOKENS } from './runtime/texts.ts';
export type { LogProb, Sampling, SamplingOptions } from './sampler.ts';
export { SAMPLING_RANGES } from './sampler.ts';
export type { SessionFile, SessionHead } from './session/file.ts';
export type { SaveOptions, Session } from './session/session.ts';
export type { Message, Tokenizer } from './tokenizer/tokenizer.ts';
