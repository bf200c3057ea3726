import { vi } from 'vitest';
import { runContract } from './contract.case.ts';
import { openWebGpu } from './webgpu.ts';

vi.setConfig({ testTimeout: 60_000 });
runContract({ name: 'webgpu', open: () => openWebGpu({ robust: true }) });
