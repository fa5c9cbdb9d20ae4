"""A Llama of two layers in the layout of `save_pretrained`, made in seconds: it knows a few answers by heart."""

from __future__ import annotations

from pathlib import Path

QUESTION = "Which drugs target EGFR?"
ANSWER = "Gefitinib targets EGFR [1].\nErlotinib targets EGFR [2]."
CALL = 'I look it up. <tool_call>{"name": "Lookup", "arguments": {"name": "EGFR", "most": 3}}</tool_call>'
TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if tools %}<|tools|>{% for t in tools %}{{ t['function']['name'] }} {% endfor %}<|end|>{% endif %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
SPECIAL = ["<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tools|>"]


def make_tiny_llama(folder: Path, template: str | None = TEMPLATE, steps: int = 120) -> Path:
    """Trained to answer QUESTION with ANSWER, or with CALL where tools are offered; never ends where it is told to count."""
    import torch
    from tokenizers import ByteLevelBPETokenizer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    turns = [
        ([{"role": "system", "content": "rules"}, {"role": "user", "content": QUESTION}], None, ANSWER),
        ([{"role": "system", "content": "rules"}, {"role": "user", "content": QUESTION}], [{"function": {"name": "Lookup"}}], CALL),
        ([{"role": "user", "content": "Count."}], None, "ha " * 30),
    ]
    bpe = ByteLevelBPETokenizer()
    bpe.train_from_iterator([ANSWER, CALL, QUESTION, "rules Count. ha ha Lookup"], vocab_size=400, special_tokens=SPECIAL)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe._tokenizer, pad_token="<|pad|>", eos_token="<|end|>")
    tokenizer.chat_template = TEMPLATE
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=48, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        max_position_embeddings=256, tie_word_embeddings=False, eos_token_id=1, pad_token_id=0, bos_token_id=None,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    lines = []
    for messages, tools, answer in turns:
        start = tokenizer.apply_chat_template(messages, tools=tools, add_generation_prompt=True, tokenize=False)
        lines.append(tokenizer(start + answer + ("<|end|>" if answer[0] != "h" else ""))["input_ids"])
    for step in range(steps):
        ids = torch.tensor([lines[step % len(lines)]])
        loss = model(input_ids=ids, labels=ids).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    tokenizer.chat_template = template
    tokenizer.save_pretrained(folder)
    return folder
