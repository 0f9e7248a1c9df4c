import os
import signal
import threading
from collections.abc import Iterator

import pytest

from handful.stopping import interruptible


@pytest.fixture
def interrupts() -> Iterator[None]:
    """As in a terminal: what is started in the background may ignore them."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interrupts")
def test_the_first_interrupt_asks_and_the_second_insists() -> None:
    before = signal.getsignal(signal.SIGINT)
    with interruptible() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGINT)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    with interruptible() as asked:
        assert not asked()
    assert signal.getsignal(signal.SIGINT) is before


def test_to_terminate_asks_however_often() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with interruptible() as asked:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
            assert asked()
    assert signal.getsignal(signal.SIGTERM) is before


def test_outside_the_main_thread_signals_are_left_alone() -> None:
    answers = []

    def body() -> None:
        with interruptible() as asked:
            answers.append((asked(), signal.getsignal(signal.SIGINT)))

    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=body)
    thread.start()
    thread.join()
    assert answers == [(False, before)]
