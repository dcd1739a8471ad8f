"""What benchmarks make of what they saw: known runs give known figures, and a missed target is seen."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from benchmarks.__main__ import markdown
from benchmarks.call_counter import CallCounter
from benchmarks.figures import Figure, percentile
from benchmarks.memory import grown
from benchmarks.slots import SLOTS, WARM, Look, judge
from benchmarks.spans import Span

GAP_S = 0.1


def row_of_spans(gap_s: float, rounds: int = 10) -> list[Span]:
    """Return runs of one second each in every slot, with such a gap between them."""
    period_s = 1 + gap_s
    return [Span(turn * period_s, turn * period_s + 1) for turn in range(rounds) for _ in range(SLOTS)]


def test_gaps_and_shares_are_those_of_the_runs() -> None:
    """Runs of a second with gaps of a tenth fill ten elevenths of the time, and each free slot waits for a tenth."""
    spans = row_of_spans(GAP_S)
    begin, end = spans[WARM].start, spans[-1].start
    looks = [Look(begin, pending=2, running=SLOTS - 2), Look(end, pending=0, running=SLOTS - 4), Look(end + 1, 0, 0)]
    filled = judge(spans, looks)
    assert filled.gaps_s == pytest.approx([GAP_S] * len(filled.gaps_s))
    assert filled.in_bodies == pytest.approx(1 / (1 + GAP_S))
    assert filled.leased == pytest.approx((SLOTS + SLOTS - 4) / 2 / SLOTS)
    assert filled.running == pytest.approx((SLOTS - 2 + SLOTS - 4) / 2 / SLOTS)


def test_one_body_or_one_lease_too_many_is_seen() -> None:
    """A body beside ten others, and a look that finds eleven leases, are told of; one that follows another is not."""
    spans, looks = row_of_spans(0), [Look(0, 0, SLOTS), Look(5, 1, SLOTS)]
    assert judge(spans, looks).leases_at_once == SLOTS + 1
    assert judge(spans, looks).bodies_at_once == SLOTS
    assert judge(sorted([*spans, Span(2.5, 2.6)]), looks).bodies_at_once == SLOTS + 1


def test_a_process_that_grows_is_told_of_and_a_flat_one_is_not() -> None:
    """Of 100 MB, 5 % of growth are flat; of 10 MB, 3 MB are; what is beyond is the figure, and misses its target."""
    assert not grown("worker", [(100.0, 105.0), (10.0, 13.0)]).value
    assert grown("worker", [(100.0, 105.0), (10.0, 13.5)]).value == pytest.approx(0.5)
    assert grown("worker", [(100.0, 105.0), (10.0, 13.5)]).verdict == "fail"


@pytest.mark.parametrize(
    ("figure", "verdict"),
    [
        (Figure("a", 0.5, at_least=0.5), "pass"),
        (Figure("a", 0.499, at_least=0.5), "fail"),
        (Figure("a", 15.0, at_most=15), "pass"),
        (Figure("a", 15.1, at_most=15), "fail"),
        (Figure("a", 15.1), ""),
    ],
)
def test_a_figure_passes_up_to_its_target(figure: Figure, verdict: str) -> None:
    """A target is reached at its very value and missed beyond it; a figure without one is not judged."""
    assert figure.verdict == verdict


def test_percentiles_are_values_that_were_seen() -> None:
    """The 99th percentile of a hundred values is the largest, the median of three the middle one."""
    assert percentile(range(100), 0.99) == 99
    assert percentile([3, 1, 2], 0.5) == 2


def test_the_page_names_the_command_of_each_figure() -> None:
    """Above its figures each benchmark has the command that measures them again."""
    page = markdown({"drain": [Figure("drain, ours", 1234.5, "tasks/s", at_least=1000, detail="one round")]}, "Here.")
    assert "`python -m benchmarks.drain`" in page
    assert "| drain, ours | 1,234 tasks/s | ≥ 1,000 | pass | one round |" in page


class Engine(BaseHTTPRequestHandler):
    """Answers every call."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """Answer."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def engine() -> Iterator[str]:
    """The address of a server that answers every call."""
    with HTTPServer(("127.0.0.1", 0), Engine) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_every_call_through_the_proxy_is_counted_once(engine: str) -> None:
    """Calls of two operations on one connection, with small and with large bodies, are counted by their names."""
    with CallCounter(engine) as counter:
        connection = http.client.HTTPConnection(counter.endpoint.removeprefix("http://"))
        for operation, size in [("Query", 10), ("UpdateItem", 200_000), ("Query", 0), ("Query", 70_000)]:
            connection.request("POST", "/", "x" * size, {"X-Amz-Target": f"DynamoDB_20120810.{operation}"})
            assert connection.getresponse().read() == b"{}"
        connection.close()
        assert counter.calls() == {"Query": 3, "UpdateItem": 1}


def test_a_name_that_is_cut_in_two_is_counted_once() -> None:
    """Wherever the stream is cut, each call in it is counted once, under its whole name."""
    stream = b"POST / HTTP/1.1\r\nX-Amz-Target: DynamoDB_20120810.UpdateItem\r\n\r\n" * 2
    for cut in range(len(stream)):
        counter = CallCounter("http://127.0.0.1:1")
        counter.count(counter.count(stream[:cut]) + stream[cut:])
        assert counter.calls() == {"UpdateItem": 2}, cut
