import { render } from 'preact';
import { begin } from './actions.ts';
import { App } from './app.tsx';
import { takeDrops } from './dropping.ts';
import { registerOffline } from './offline.ts';
import './style.css';

render(<App />, document.getElementById('app') as HTMLElement);
takeDrops();
void begin();
void registerOffline();
