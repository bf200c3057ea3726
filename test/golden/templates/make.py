"""Renders the templates of sources.json as transformers' apply_chat_template does, and writes golden.json.

pip install jinja2==3.1.6 transformers==5.24.0; python test/golden/templates/make.py
"""

import json
from pathlib import Path

from jinja2.exceptions import TemplateError
from transformers.utils.chat_template_utils import _compile_jinja_template


def render(template, messages):
    variables = {"messages": messages, "add_generation_prompt": True, "tools": None, "documents": None}
    try:
        return {"text": _compile_jinja_template(template).render(**variables, bos_token="<s>", eos_token="</s>")}
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
