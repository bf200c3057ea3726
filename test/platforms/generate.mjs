/** Prints what a model goes on with. It runs in Node, Deno, Bun and browsers alike, which give it the package and the model. */
export async function generate({ loadModel }, source) {
  const model = await loadModel(source, { context: 256, precision: 'f32', kvType: 'f32' });
  let text = '';
  const options = { maxTokens: 24, temperature: 0 };
  for await (const piece of model.generate('Once upon a time there was', options)) text += piece.text;
  await model.dispose();
  return { backend: model.backendName, text };
}

if (globalThis.process?.argv.length > 2) {
  const [entry, path] = process.argv.slice(-2);
  console.log(JSON.stringify(await generate(await import(entry), path)));
}
