import pkgutil
import subprocess
import sys

import glassgpt.text


def test_no_file_of_text_imports_torch() -> None:
    modules = [f"glassgpt.text.{module.name}" for module in pkgutil.iter_modules(glassgpt.text.__path__)]
    assert "glassgpt.text.tokenizer" in modules
    program = (
        f"import importlib, sys; [importlib.import_module(name) for name in {modules}]\n"
        "from glassgpt.text.kinds import train_tokenizer\n"
        "train_tokenizer('bpe:300', ['a text'])\n"
        "train_tokenizer('gpt2', [])\n"
        "print([name for name in sys.modules if name.partition('.')[0] in ('torch', 'transformers')])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
