"""Chat templates with tools, in the two forms that published checkpoints write them in, as short as they go."""

_MESSAGES = """
{%- for m in messages %}
    {%- if m.role == "tool" %}
        {{- "<|im_start|>user\n<tool_response>\n" + m.content + "\n</tool_response><|im_end|>\n" }}
    {%- else %}
        {{- "<|im_start|>" + m.role + "\n" }}
        {%- if m.reasoning_content %}{{- "<think>\n" + m.reasoning_content + "\n</think>\n\n" }}{% endif %}
        {{- m.content }}
        {%- for call in m.tool_calls or [] %}
            {%- set function = call.function %}CALL
        {%- endfor %}
        {{- "<|im_end|>\n" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- "<|im_start|>assistant\n" }}
    {%- if enable_thinking is defined and enable_thinking %}{{- "<think>\n" }}{% endif %}
{%- endif %}"""
_TOOLS = """
{%- if tools %}
    {{- "<|im_start|>system\n" }}{% for tool in tools %}DECLARE{% endfor %}{{- "<|im_end|>\n" }}
{%- endif %}"""
_JSON_CALL = """{{- '\n<tool_call>\n{"name": "' + function.name + '", "arguments": ' }}
            {{- function.arguments if function.arguments is string else function.arguments | tojson }}
            {{- '}\n</tool_call>' }}"""
_XML_CALL = """{{- '\n<tool_call>\n<function=' + function.name + '>\n' }}
            {%- for key, value in function.arguments | items %}
                {{- '<parameter=' + key + '>\n' + (value if value is string else value | tojson) + '\n</parameter>\n' }}
            {%- endfor %}
            {{- '</function>\n</tool_call>' }}"""
_NAMED = "{{- tool.function.name + ': ' + tool.function.description + '\n' }}"
HERMES = _TOOLS.replace("DECLARE", "{{- tool | tojson + '\n' }}") + _MESSAGES.replace("CALL", _JSON_CALL)
CODER = _TOOLS.replace("DECLARE", _NAMED) + _MESSAGES.replace("CALL", _XML_CALL)
