import { render } from 'preact';

render(<h1>dualchunk</h1>, document.getElementById('app') as HTMLElement);
