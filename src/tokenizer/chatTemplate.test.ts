import { describe, expect, it } from 'vitest';
import { UnsupportedError } from '../errors.ts';
import { chatTemplateOf, renderChat } from './chatTemplate.ts';

const messages = [{ role: 'user', content: 'Hello' }];
const render = (template: string, config: Record<string, unknown> = {}) =>
  renderChat(template, config, messages, true, 'a model');

describe('chatTemplateOf', () => {
  it.each([
    ['a string', 'A', 'A'],
    [
      'the default of several',
      [
        { name: 'tool_use', template: 'T' },
        { name: 'default', template: 'D' },
      ],
      'D',
    ],
    ['no default', [{ name: 'tool_use', template: 'T' }], undefined],
    ['nothing', undefined, undefined],
    ['not a template', [null, 3], undefined],
  ])('%s', (_name, chat_template, expected) => {
    expect(chatTemplateOf({ chat_template })).toBe(expected);
  });
});

describe('renderChat', () => {
  it('writes turns and the opening of the answer', () => {
    const template =
      "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m.content }}{% endfor %}" +
      '{% if add_generation_prompt %}<|assistant|>{% endif %}';
    expect(render(template)).toBe('<|user|>Hello<|assistant|>');
    expect(renderChat(template, {}, messages, false, 'a model')).toBe('<|user|>Hello');
  });

  it('drops the line end after a block and the indent before it, as transformers sets Jinja', () => {
    expect(render('{% if true %}\n  {% for m in messages %}\n{{ m.content }}\n  {% endfor %}\n{% endif %}')).toBe(
      'Hello\n',
    );
  });

  it('knows the named tokens, as strings and as records', () => {
    const config = { bos_token: '<s>', eos_token: { content: '</s>' }, pad_token: null };
    expect(render('{{ bos_token }}{{ eos_token }}{{ pad_token }}', config)).toBe('<s></s>');
  });

  it('gives no tools', () => {
    expect(render('{% if tools %}tools{% endif %}{% if tools is not none %}some{% endif %}')).toBe('');
  });

  it('knows the date', () => {
    expect(render("{{ strftime_now('%Y') }}")).toMatch(/^20\d\d$/);
  });

  it('passes on what a template objects to', () => {
    const refusing = "{{ raise_exception('roles must alternate') }}";
    expect(() => render(refusing)).toThrow(UnsupportedError);
    expect(() => render(refusing)).toThrow('a model: the chat template refused the messages: roles must alternate');
  });

  it('refuses a template it cannot parse', () => {
    expect(() => render('{% if %}')).toThrow(UnsupportedError);
  });
});
