/** The peer: llama.cpp's prebuilt CPU build by node-llama-cpp, which is installed on demand. */

/** What is used of node-llama-cpp, so that types can be checked while it is not installed. */
interface NodeLlamaCpp {
  getLlama(options: object): Promise<{
    systemInfo: string;
    llamaCppRelease: { release: string };
    loadModel(options: object): Promise<LlamaModel>;
    dispose(): Promise<void>;
  }>;
}

interface LlamaModel {
  createContext(options: object): Promise<{
    currentThreads: number;
    flashAttention: boolean | 'auto';
    getSequence(): LlamaSequence;
  }>;
}

interface LlamaSequence {
  nextTokenIndex: number;
  tokenMeter: { usedInputTokens: number; usedOutputTokens: number };
  clearHistory(): Promise<void>;
  evaluateWithoutGeneratingNewTokens(tokens: number[]): Promise<void>;
  evaluate(tokens: number[], options: object): AsyncGenerator<number>;
  controlledEvaluate(
    input: (number | [number, object])[],
  ): Promise<({ next: { logits: Map<number, number> } } | undefined)[]>;
}

/** Opens a model for so many threads. */
export async function loadLlamaCpp(path: string, threads: number) {
  const name: string = 'node-llama-cpp'; // a plain string, so that the compiler does not look for the package
  const { getLlama }: NodeLlamaCpp = await import(name);
  const llama = await getLlama({
    build: 'never',
    skipDownload: true,
    gpu: false,
    logLevel: 'error',
    maxThreads: threads,
  });
  const model = await llama.loadModel({ modelPath: path });
  return { llama, model };
}
