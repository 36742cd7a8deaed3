"""How the numbers of each section are to be read, and why some of them disappoint."""

from __future__ import annotations

READING = {
    "overhead": (
        "The objective reads every activation again and adds to its gradient; no convolution does more work. What it "
        "costs on a CPU is therefore memory traffic. Tensors of tens of megabytes, as the first two layers make them, "
        "are the expensive ones: the C library gives them back to the operating system when they are freed, and their "
        "next pages have to be mapped and cleared first. Whoever makes more of them, as `closed-form` and the matrices "
        "of distances do, pays for that beside the arithmetic. `--allocator kept` measures the same where the C "
        "library keeps the memory, as it does in `dainv train`."
    ),
    "overhead-kept": (
        "The same steps in a process that never gives memory back to the operating system, as `dainv train` runs. All "
        "arms are faster, the baseline too. Whoever makes large temporary tensors gains most, so the overheads of the "
        "others come closer to what their arithmetic and memory traffic cost."
    ),
    "overhead-epoch": (
        "Drawing and augmenting the batches is part of an epoch and costs every arm the same. Epochs are long and so "
        "their rounds few: an interval that contains 0 says that the difference is lost in the machine's noise, and a "
        "negative overhead is that noise, too."
    ),
    "kernels": (
        "These are calls of the operator alone, one after the other; what a training step pays is above. Where "
        "features are few, a call costs what torch takes to dispatch its operations and to record them for autograd, "
        "a few hundred microseconds of which the arithmetic is a small part, so plain autograd can be as fast or "
        "faster there. Where features are many, results that do not fit into what the C library keeps come as fresh "
        "pages of the operating system, and clearing these limits everyone, the bare `relu` too; the copy writes to "
        "memory that is there."
    ),
    "scores": (
        "`published` makes one forward pass fewer, since it keeps the activations, and its N × N matrices are small at "
        "first: it can be faster where N is small. Its memory grows with N, and its matrices with N²; what streaming "
        "holds grows with the batch and not with N."
    ),
    "scaling": (
        "An exponent describes the range measured: 1 means that twice as much costs twice as much. It is smaller where "
        "the fixed cost of a call weighs, and larger where data stop fitting into a cache or into what the C library "
        "keeps. Ranks share one batch and as many threads as there are cores: with more ranks than cores they "
        "take turns, and all of them wait for the last."
    ),
}
