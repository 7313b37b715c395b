"""Small tokenizers with the chat formats of the families of language models.

The templates mark answers for transformers with `generation`, which the tests compare with.
"""

from __future__ import annotations

from typing import Any

from pad_pipeline.train.text.encode import load_tokenizer
from tests.golden_data import golden_dir
from tests.train.text.byte_level import byte_level_tokenizer, chatml_tokenizer

LLAMA3 = """\
{{- bos_token -}}
{%- if not date_string is defined -%}{%- set date_string = strftime_now('%d %b %Y') -%}{%- endif -%}
{%- set head = '<|start_header_id|>ROLE<|end_header_id|>\\n\\n' -%}
{%- set system = '' -%}
{%- if messages[0]['role'] == 'system' -%}
{%- set system = messages[0]['content'] -%}{%- set messages = messages[1:] -%}
{%- endif -%}
{{- head.replace('ROLE', 'system') + 'Today: ' + date_string + '\\n\\n' + system + '<|eot_id|>' -}}
{%- for message in messages -%}
{{- head.replace('ROLE', message['role']) -}}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{- message['content'] | trim + '<|eot_id|>' -}}{%- endgeneration -%}
{%- else -%}{{- message['content'] | trim + '<|eot_id|>' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- head.replace('ROLE', 'assistant') -}}{%- endif -%}
"""

QWEN2 = """\
{%- if messages[0]['role'] != 'system' -%}
{{- '<|im_start|>system\\nYou are helpful.<|im_end|>\\n' -}}
{%- endif -%}
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['role'] == 'assistant' -%}
{%- generation -%}{{- message['content'] + '<|im_end|>' -}}{%- endgeneration -%}{{- '\\n' -}}
{%- else -%}{{- message['content'] + '<|im_end|>\\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|im_start|>assistant\\n' -}}{%- endif -%}
"""

QWEN3 = """\
{%- for message in messages -%}
{{- '<|im_start|>' + message['role'] + '\\n' -}}
{%- if message['role'] == 'assistant' -%}
{%- set text = message['content'] -%}
{%- if '</think>' in text -%}{%- set text = text.split('</think>')[-1].lstrip() -%}{%- endif -%}
{%- if loop.last -%}{{- '<think>\\n\\n</think>\\n\\n' -}}{%- endif -%}
{%- generation -%}{{- text + '<|im_end|>' -}}{%- endgeneration -%}{{- '\\n' -}}
{%- else -%}{{- message['content'] + '<|im_end|>\\n' -}}{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{- '<|im_start|>assistant\\n' -}}
{%- if enable_thinking is defined and not enable_thinking -%}
{{- '<think>\\n\\n</think>\\n\\n' -}}
{%- endif -%}
{%- endif -%}
"""

MISTRAL = """\
{{- bos_token -}}
{%- set ns = namespace(system='') -%}
{%- if messages[0]['role'] == 'system' -%}
{%- set ns.system = messages[0]['content'] + '\\n\\n' -%}{%- set messages = messages[1:] -%}
{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}
{%- set before = ns.system if loop.last or loop.index0 == messages | length - 2 else '' -%}
{{- '[INST] ' + before + message['content'] + ' [/INST]' -}}
{%- else -%}
{%- generation -%}{{- ' ' + message['content'] + eos_token -}}{%- endgeneration -%}
{%- endif -%}
{%- endfor -%}
"""

VICUNA = """\
{{- bos_token -}}
{%- if messages[0]['role'] == 'system' -%}
{{- messages[0]['content'] + ' ' -}}{%- set messages = messages[1:] -%}
{%- endif -%}
{%- for message in messages -%}
{%- if message['role'] == 'user' -%}{{- 'USER: ' + message['content'] + ' ' -}}
{%- else -%}{{- 'ASSISTANT:' -}}
{%- generation -%}{{- ' ' + message['content'] + eos_token -}}{%- endgeneration -%}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- 'ASSISTANT:' -}}{%- endif -%}
"""

FAMILIES = ("llama-3", "qwen2", "qwen3", "mistral", "vicuna")


def family_tokenizer(family: str) -> Any:
    """A small tokenizer of the family, with its chat template."""
    if family == "llama-3":
        tokenizer = byte_level_tokenizer()
    elif family.startswith("qwen"):
        tokenizer = chatml_tokenizer()
    else:
        tokenizer = load_tokenizer(golden_dir("llava_text") / "tokenizer")
    templates = (LLAMA3, QWEN2, QWEN3, MISTRAL, VICUNA)
    tokenizer.chat_template = dict(zip(FAMILIES, templates, strict=True))[family]
    return tokenizer
