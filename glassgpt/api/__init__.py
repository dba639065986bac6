"""The rooms wired together: `train` a GPT on a text, `load` one and use it, `plan` what one costs.

    start.py    from what the user gave to everything a run needs, new or resumed; with the help of
                merge.py (settings from several places), texts.py, choice.py (what to train in the time given),
                minutes.py (too little time, too much text), limits.py (memory), machine.py (device, kernel, threads)
    outlook.py  what a run will take, before its first step
    record.py   what a run writes: checkpoints, metrics, samples, curve
    train.py    train()
    report.py   report(): report.html, the page of a finished run; run_record.py reads what a run left
    code.py     a model or an optimiser of the user's own
    loaded.py   load(): a model to generate with and to measure, which is
                gpt.py (the model and its tokenizer), native.py (in the native decoder), in_torch.py (in PyTorch)
    inspected.py  GPT.inspect(): what the model does with a prompt
    inspected.py GPT.inspect: a prompt and what the model does with it
    export.py   export(): a model as a directory of its own, plain or quantised
    compare.py  compare(): which of several settings is better, if any

`import glassgpt` offers what counts, each loaded when it is first used.
"""
