"""Renders the templates of sources.json as transformers' apply_chat_template does, and writes golden.json.

pip install jinja2==3.1.6; python test/golden/templates/make.py

The environment is that of transformers 5: sandboxed, with trim_blocks, lstrip_blocks, loop controls, its own tojson,
raise_exception, and the tag "generation".
"""

import json
from pathlib import Path

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.sandbox import ImmutableSandboxedEnvironment


class Generation(Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.If(nodes.Const(True), body, [], []).set_lineno(line)


def refuse(message):
    raise TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = refuse
    return env


def render(template, messages):
    variables = {"messages": messages, "add_generation_prompt": True, "tools": None, "documents": None}
    try:
        return {"text": environment().from_string(template).render(**variables, bos_token="<s>", eos_token="</s>")}
    except TemplateError as error:
        return {"error": str(error)}
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}


here = Path(__file__).parent
sources = json.loads((here / "sources.json").read_text())
golden = [
    {"template": template, "results": [render(template, messages) for messages in sources["conversations"]]}
    for template in sources["templates"]
]
(here / "golden.json").write_text(json.dumps(golden, ensure_ascii=True, indent=1) + "\n")
