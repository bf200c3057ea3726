/** Markdown as elements: `marked` finds its parts, and each becomes an element here, so that no answer can bring HTML of its own. */
import { lexer, type Token, type Tokens } from 'marked';
import type { ComponentChildren } from 'preact';

export default function Markdown({ text }: { text: string }) {
  return <div class="markdown">{elements(lexer(text))}</div>;
}

// --- internal ---

const elements = (tokens: readonly Token[] = []): ComponentChildren[] => tokens.map(element);

function element(token: Token): ComponentChildren {
  const inner = () => elements('tokens' in token ? token.tokens : undefined);
  switch (token.type) {
    case 'heading': {
      const Heading = `h${Math.min(6, (token as Tokens.Heading).depth + 3)}` as 'h4';
      return <Heading>{inner()}</Heading>;
    }
    case 'paragraph':
      return <p>{inner()}</p>;
    case 'strong':
      return <strong>{inner()}</strong>;
    case 'em':
      return <em>{inner()}</em>;
    case 'del':
      return <del>{inner()}</del>;
    case 'codespan':
      return <code>{(token as Tokens.Codespan).text}</code>;
    case 'code':
      return <pre>{(token as Tokens.Code).text}</pre>;
    case 'blockquote':
      return <blockquote>{inner()}</blockquote>;
    case 'list': {
      const { ordered, items, start } = token as Tokens.List;
      const rows = items.map((item) => <li>{elements(item.tokens)}</li>);
      return ordered ? <ol start={Number(start) || 1}>{rows}</ol> : <ul>{rows}</ul>;
    }
    case 'table':
      return <Table table={token as Tokens.Table} />;
    case 'br':
      return <br />;
    case 'hr':
      return <hr />;
    case 'space':
      return null;
    case 'escape':
    case 'text':
      return 'tokens' in token && token.tokens ? inner() : (token as Tokens.Text).text;
    default:
      return token.raw; // links, pictures and HTML are shown as they were written
  }
}

function Table({ table: { header, rows } }: { table: Tokens.Table }) {
  return (
    <table>
      <thead>
        <tr>
          {header.map(({ tokens }) => (
            <th>{elements(tokens)}</th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows.map((row) => (
          <tr>
            {row.map(({ tokens }) => (
              <td>{elements(tokens)}</td>
            ))}
          </tr>
        ))}
      </tbody>
    </table>
  );
}
