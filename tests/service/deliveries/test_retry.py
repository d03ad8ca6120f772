"""Backoff and circuit."""

import random

import pytest

from llmcxr_service.deliveries.retry import Circuit, backoff


def test_backoff_doubles_and_is_bounded():
    dice = random.Random(1)
    for attempt in range(1, 200):
        whole = min(600.0, 2.0 ** (attempt - 1))
        pauses = [
            backoff(attempt, first_seconds=1.0, longest_seconds=600.0, dice=dice) for _ in range(50)
        ]
        assert all(whole / 2 <= pause <= whole for pause in pauses)
        assert len(set(pauses)) > 25


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def circuit(clock):
    return Circuit(threshold=3, first_seconds=5.0, longest_seconds=12.0, clock=clock)


def test_it_opens_after_failures_in_a_row(circuit):
    for _ in range(2):
        circuit.failed()
    circuit.succeeded()
    for _ in range(2):
        circuit.failed()
    assert not circuit.is_open
    assert circuit.seconds_to_wait() == 0.0
    circuit.failed()
    assert circuit.is_open
    assert circuit.seconds_to_wait() == 5.0


def test_one_probe_at_a_time(circuit, clock):
    for _ in range(3):
        circuit.failed()
    clock.now = 5.0
    assert circuit.seconds_to_wait() == 0.0
    assert circuit.seconds_to_wait() > 0.0
    circuit.succeeded()
    assert not circuit.is_open
    assert circuit.seconds_to_wait() == circuit.seconds_to_wait() == 0.0


def test_the_pause_doubles_up_to_its_bound(circuit, clock):
    for _ in range(3):
        circuit.failed()
    for pause in (5.0, 10.0, 12.0, 12.0):
        assert circuit.seconds_to_wait() == pause
        clock.now += pause
        assert circuit.seconds_to_wait() == 0.0
        circuit.failed()


def test_a_probe_that_told_nothing_lets_the_next_one_go(circuit, clock):
    for _ in range(3):
        circuit.failed()
    clock.now = 5.0
    assert circuit.seconds_to_wait() == 0.0
    circuit.abandoned()
    assert circuit.is_open
    assert circuit.seconds_to_wait() == 0.0
