"""docs/your-model.md walked from its first command to its last, with a tiny random Llama.

What is typed is what the page says. Behind it stand a few keys that make it short.
"""

import json
import re
import shlex
from pathlib import Path

import pytest
import torch

from commands import ROOT, command_here, write_text
from foreign_folder import LENGTH, trained_tokenizer, write_llama

PAGE = (ROOT / "docs/your-model.md").read_text(encoding="utf-8")
SHELL = "\n".join(re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)).replace("\\\n", " ")
COMMANDS = re.findall(r"python (\w+\.py) ([^\n]*)", SHELL)
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
PLACES = {"MODEL": "models/llama", "TEXTS": "texts", "LENGTH": str(4 * LENGTH)}
FEW = ("passages=6", "target_tokens=8", "accelerator=cpu", f"lengths=[{LENGTH},{4 * LENGTH}]")
SHORT = {
    "evaluate.py": FEW,
    "generate.py": ("max_new_tokens=4", "accelerator=cpu"),
    "train.py": (
        *("trainer.max_steps=2", "trainer.val_check_interval=2", "trainer.accelerator=cpu"),
        *("optimizer.warmup_steps=1", "callbacks=none", "logger=none"),
        *("evaluation.passages=2", f"evaluation.lengths=[{4 * LENGTH}]"),
    ),
    "export.py": (),
}


def walk(home: Path) -> dict[str, list[str]]:
    """Every command of the page in turn; what each script has printed."""
    (home / "texts").mkdir()
    for name in ("one.txt", "two.md"):
        write_text(home / "texts" / name, lines=400)
    printed: dict[str, list[str]] = {}
    for script, arguments in COMMANDS:
        for place, here in PLACES.items():
            arguments = re.sub(rf"\b{place}\b", here, arguments)
        typed = shlex.split(arguments, comments=True)
        trials = ["trials=11"] if "passkey" in arguments else []
        done = command_here(script, *typed, *SHORT[script], *trials, cwd=home)
        assert done.returncode == 0, (typed, done.stderr)
        printed.setdefault(script, []).append(done.stdout)
    return printed


def check(home: Path, printed: dict[str, list[str]]) -> None:
    """What the page promises of each step."""
    tables = printed["evaluate.py"]
    assert all("Bits per byte" in text and "Nats per token" in text for text in tables)
    assert "passkey: " in tables[1] and "plain words" in tables[1]
    assert "setting" in tables[1].split("results: ")[0]
    found = json.loads((home / "my-table/extrapolation.json").read_text())
    assert found["train_length"] == LENGTH and found["setting"] is not None
    assert printed["generate.py"][0].startswith("Once upon a time")
    config = json.loads((home / "longer/config.json").read_text())
    rope = config["rope_parameters"]
    assert (rope["rope_type"], rope["factor"]) == ("yarn", 4.0)
    assert rope["original_max_position_embeddings"] == LENGTH
    assert {"tokenizer.json", "README.md"} <= {path.name for path in (home / "longer").iterdir()}


def test_the_page_has_a_command_for_each_step() -> None:
    assert {script for script, _ in COMMANDS} == SHORT.keys() and len(COMMANDS) == 6
    assert len(PYTHON) == 1


def test_from_a_folder_to_a_table_text_and_an_export(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("files.draw_all", "tensorboard.log_figures"):  # the slow one below has pictures
        monkeypatch.setattr(f"evaluation.report.{name}", lambda *_: None)
    write_llama(tmp_path / PLACES["MODEL"])
    check(tmp_path, walk(tmp_path))


@pytest.mark.slow
def test_the_same_with_a_llama_of_transformers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    from cli.trained import load_trained

    tokenizer = trained_tokenizer()
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=tokenizer.vocab_size + 8,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=LENGTH,
    )
    folder = tmp_path / PLACES["MODEL"]
    LlamaForCausalLM(config).save_pretrained(folder)
    (tmp_path / "tokenizer.json").write_text(tokenizer.state()["json"])
    fast = PreTrainedTokenizerFast(
        tokenizer_file=str(tmp_path / "tokenizer.json"), bos_token="<s>", eos_token="</s>"
    )
    fast.save_pretrained(folder)
    check(tmp_path, walk(tmp_path))

    monkeypatch.chdir(tmp_path)
    there: dict = {}
    exec(compile(PYTHON[0], "your-model.md", "exec"), there)
    ours = load_trained("runs/longer", torch.device("cpu"))
    text = "line 7: seven and 49"
    ids = there["tokenizer"](text, add_special_tokens=False, return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == ours.tokenizer.encode(text).tolist()
    with torch.no_grad():
        torch.testing.assert_close(
            ours.model(ids), there["model"].eval()(ids).logits, rtol=1e-4, atol=1e-4
        )
