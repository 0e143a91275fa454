"""Writes parameters.json: path, dtype and shape of every parameter of every family, published sizes and small ones.

    python -m tests.golden.make_parameters

A path is a name that checkpoints of training, adapters and users' programs hold on to: to run this again is to say that
all of those are broken, or taken care of.
"""

import json

from tests.golden.parameters import FILE, abstract_tree, published, small


def main() -> None:
    trees = {name: abstract_tree(raw, "bfloat16") for name, raw in published().items()}
    trees |= {name: abstract_tree(raw, "float32") for name, raw in small().items()}
    lines = []
    for name, tree in trees.items():
        rows = ",\n".join(f" {json.dumps(path)}: {json.dumps(leaf)}" for path, leaf in tree.items())
        lines.append(f"{json.dumps(name)}: {{\n{rows}\n}}")
    FILE.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
    print(len(trees), "trees,", sum(map(len, trees.values())), "parameters,", f"{FILE.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
