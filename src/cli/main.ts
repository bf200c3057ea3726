#!/usr/bin/env node
/** The command line. The only file that ends the process; errors a user can mend are one line, without a stack. */
import { Command } from 'commander';
import { PACKAGE } from '../bundled.ts';
import { FormatError, UnsupportedError } from '../index.ts';
import { chatCommand } from './chat.ts';
import { demoCommand } from './demo.ts';
import { evalCommand } from './eval.ts';
import { inspectCommand } from './inspect.ts';
import { runCommand } from './run.ts';
import { note } from './terminal.ts';

const { version, description } = PACKAGE;

const program = new Command('dualchunk')
  .description(description)
  .version(version)
  .showHelpAfterError('(--help shows what is possible)')
  .addCommand(runCommand())
  .addCommand(chatCommand())
  .addCommand(inspectCommand())
  .addCommand(demoCommand())
  .addCommand(evalCommand())
  .addHelpText(
    'after',
    `
Examples:
  $ dualchunk demo
  $ dualchunk run model.gguf -f book.txt --take 12k -p "Who keeps a journal in this text?"
  $ dualchunk chat model.gguf
  $ dualchunk inspect model.gguf --context 64k
  $ dualchunk eval perplexity --model model.gguf --text book.txt --lengths 1k,4k,16k --methods none,ntk,dca
  $ dualchunk help run`,
  );

process.on('SIGINT', () => {
  process.stderr.write('\u001b[?25h\ninterrupted\n'); // the progress bar hides the cursor
  process.exit(130);
});
// A reader that has seen enough, `dualchunk run … | head`, closes the pipe.
process.stdout.on('error', (error: NodeJS.ErrnoException) => process.exit(error.code === 'EPIPE' ? 0 : 1));

try {
  await program.parseAsync();
} catch (error) {
  const isExpected = error instanceof FormatError || error instanceof UnsupportedError;
  note(isExpected ? `dualchunk: ${error.message}` : `dualchunk: unexpected fault\n${(error as Error).stack}`);
  process.exit(1);
}
