"""The thread that owns the engine: requests join, leave and fail alone, and nothing ends it but `close`."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving import Echo, Stepwise, prompt, question

from sg_local import prompts, serve
from sg_local.backends.scripted import TEMPLATE
from sg_local.backends.session import Lane
from sg_local.records import SgError

FORM = prompts.forms(TEMPLATE, eos="<|im_end|>")[0]


@pytest.fixture
def worker_of():
    workers = []

    def start(generator) -> serve.Worker:
        workers.append(serve.Worker(generator))
        return workers[-1]

    yield start
    for worker in workers:
        worker.close()


def order(text: str, **more) -> serve.Order:
    return serve.Order(lambda generator: prompt(text), **more)


def text_of(ticket) -> str:
    return ticket.result(10).completion.text


def test_a_request_joins_the_rows_under_way(tmp_path, worker_of):
    engine = Stepwise(tmp_path)
    worker = worker_of(engine)
    first = worker.submit(order("first"))
    assert engine.started.wait(10)
    later = [worker.submit(order(f"later {i}")) for i in range(3)]
    while engine.together < 4:
        assert not first.future.done()
    engine.go_on.set()
    assert [text_of(ticket) for ticket in [first, *later]] == ["FIRST", "LATER 0", "LATER 1", "LATER 2"]


def test_close_ends_the_rows_under_way(tmp_path, worker_of):
    engine = Stepwise(tmp_path)
    worker = worker_of(engine)
    ticket = worker.submit(order("never ends"))
    assert engine.started.wait(10)
    worker.close()
    with pytest.raises(SgError, match="has stopped"):
        ticket.result(10)
    with pytest.raises(SgError, match="has stopped"):
        worker.submit(order("too late")).result(10)
    assert worker.n_open == 0


def faulty(text: str) -> bool:
    return text.startswith("bad")


@pytest.mark.parametrize("fault", [SgError("no room"), RuntimeError("ours"), UnicodeError("odd"), MemoryError()])
def test_what_a_request_raises_fails_that_request_alone(tmp_path, worker_of, fault):
    class Raising(Stepwise):
        def generate(self, prompts):
            for completion in super().generate(prompts):
                if faulty(self.asked[-1].segments[0].text):
                    raise fault
                yield completion

    engine = Raising(tmp_path)
    engine.go_on.set()
    worker = worker_of(engine)
    texts = [f"{'bad' if i % 5 == 2 else 'good'} {i}" for i in range(20)]
    tickets = [worker.submit(order(text)) for text in texts]
    for text, ticket in zip(texts, tickets, strict=True):
        if faulty(text):
            with pytest.raises(type(fault)):
                ticket.result(10)
        else:
            assert text_of(ticket) == text.upper()
    assert worker.is_alive and worker.n_open == 0


def test_a_prompt_that_cannot_be_built_fails_alone(tmp_path, worker_of):
    def unbuildable(generator):
        raise RecursionError("a template without end")

    worker = worker_of(Echo(tmp_path))
    with pytest.raises(RecursionError):
        worker.submit(serve.Order(unbuildable)).result(10)
    assert text_of(worker.submit(order("fine"))) == "FINE"


def test_a_fault_of_the_whole_engine_does_not_end_the_thread(tmp_path, worker_of, monkeypatch):
    worker = worker_of(Echo(tmp_path))

    def fail():
        raise RuntimeError("broken")

    monkeypatch.setattr(worker._session, "step", fail)
    with pytest.raises(RuntimeError, match="broken"):
        worker.submit(order("lost")).result(10)
    monkeypatch.undo()
    assert worker.is_alive
    assert text_of(worker.submit(order("fine"))) == "FINE"


def test_a_cancelled_request_is_never_computed(tmp_path, worker_of):
    engine = Stepwise(tmp_path)
    worker = worker_of(engine)
    hold = threading.Event()

    def slow(generator):
        hold.wait(10)
        return prompt("slow")

    engine.go_on.set()
    running, waiting = worker.submit(serve.Order(slow)), worker.submit(order("cancelled"))
    worker.cancel(waiting)
    hold.set()
    assert text_of(running) == "SLOW" and text_of(worker.submit(order("after"))) == "AFTER"
    assert [one.segments[0].text for one in engine.asked] == ["slow", "after"]
    assert waiting.future.cancelled() and worker.n_open == 0


def test_an_adapter_serves_until_its_requests_are_through(tmp_path, worker_of):
    class Adapted(Echo):
        def generate(self, prompts):
            for completion in super().generate(prompts):
                yield completion.__class__(
                    completion.prompt_id, f"{self.adapter.name} {completion.text}", "stop", 1, 1, 0.0
                )

    worker = worker_of(Adapted(tmp_path))
    lanes = [Lane(tmp_path / name) for name in ("one", "two", "three")]
    tickets = [worker.submit(order(f"text {i}", lane=lanes[i % 3])) for i in range(12)]
    assert [text_of(ticket) for ticket in tickets] == [f"{lanes[i % 3].adapter.name} TEXT {i}" for i in range(12)]


def test_many_threads_each_get_their_own_answer(tmp_path, routing, worker_of):
    worker = worker_of(Echo(tmp_path))

    def one(i: int) -> bool:
        if i % 3:
            return text_of(worker.submit(order(f"text {i}"))) == f"TEXT {i}"
        label = routing.labels[i % 2]
        found = worker.submit(serve.Order(lambda generator: question(f"a {label} thing", routing.labels))).result(30)
        return found.logprobs.index(max(found.logprobs)) == routing.labels.index(label)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(200)))
