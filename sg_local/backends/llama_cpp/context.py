"""One llama_context as a pool of sequences: fill a batch, decode it, read logits; interruptible at any moment.

Decoding runs on a thread of its own, so that Ctrl-C reaches Python while llama.cpp computes; the abort callback then
ends the computation at the next node of the graph. All sequences share one pool of cells (`kv_unified`): a copy of a
prefix is bookkeeping only. Flash attention skips cells that a token does not see, so a shared pool costs a token
about its own sequence and no more; measured on 2 cores with 32 sequences: 354 against 238 tokens/s without (Q8_0).
"""

from __future__ import annotations

import concurrent.futures
import ctypes
import time
from dataclasses import dataclass
from typing import Any

import llama_cpp as lib
import numpy as np

from sg_local.backends.footprint import N_BATCH, pool_cells
from sg_local.backends.llama_cpp.library import log
from sg_local.backends.llama_cpp.threads import Observation, ThreadCount
from sg_local.records import SgError
from sg_local.words import size

MAX_SEQUENCES = 256  # LLAMA_MAX_SEQ in llama-cparams.h
DECODED, NO_ROOM, ABORTED = 0, 1, 2  # llama_decode's answers


@dataclass(frozen=True)
class ContextPlan:
    """`n_ctx` bounds one sequence, in tokens; `n_parallel` sequences run at a time, `n_batch` tokens in one decode.

    Where it `follows` the machine, `n_threads` are the most; how many compute is then the matter of `threads`.
    `on_node` is a callback of ctypes that sees every node of the graph computed; its owner keeps it alive. The pool is
    one of `n_pools` that share the memory.
    """

    n_ctx: int
    n_parallel: int
    n_threads: int
    follows: bool = False
    n_batch: int = N_BATCH
    on_node: Any = None
    n_pools: int = 1


class Crew:
    """Who computes for some contexts: all threads together, or `limit` of them while another crew is at work.

    OpenMP gives each thread that computes a team of its own, and where teams outnumber the processors they wait
    asleep, by which every decode takes half as long again. So crews that share a machine share the one thread whose
    team is everybody, and take turns there; each has a thread of its `own` for the `limit`. What is measured of the
    machine's time counts for all contexts of a crew.
    """

    def __init__(self, n_threads: int, chief: Crew | None = None) -> None:
        self.own = _one_thread()
        self.all: concurrent.futures.ThreadPoolExecutor = self.own if chief is None else chief.all
        self.threads = ThreadCount(n_threads)
        self.limit: int | None = None

    def close(self) -> None:
        """Let the thread end."""
        self.own.shutdown()


class Context:
    """Sequences of one model. Sequence 0 is kept for a shared prefix; callers number theirs from 1.

    A second context computes `beside` the first, in turn and by its crew; without, a crew of its own computes.
    """

    def __init__(
        self,
        model: object,
        vocab_size: int,
        plan: ContextPlan,
        beside: Context | None = None,
        crew: Crew | None = None,
    ) -> None:
        self.plan = plan
        self.n_batch = plan.n_batch
        self.n_cells = pool_size(model, plan)
        self._vocab_size = vocab_size
        self._flag = ctypes.create_string_buffer(2)
        self._pointer = self._open(model)
        self._memory = lib.llama_get_memory(self._pointer)
        self._owns_crew = beside is None
        self.crew: Crew = beside.crew if beside is not None else crew or Crew(plan.n_threads)
        self._make_batch()

    def _make_batch(self) -> None:
        """A llama_batch over NumPy memory, so that whole runs of tokens are written at once."""
        n = self.n_batch
        self._n_tokens, self._n_rows, self._read_rows = 0, 0, 0
        self._tokens, self._positions = np.zeros(n, np.int32), np.zeros(n, np.int32)
        self._counts = np.zeros(n, np.int32)
        self._sequences = np.zeros((n, MAX_SEQUENCES), np.int32)
        self._lists = (self._sequences.ctypes.data + np.arange(n) * self._sequences.strides[0]).astype(np.uintp)
        self._wanted = np.zeros(n, np.int8)
        self._batch: Any = lib.llama_batch()
        arrays: dict[str, np.ndarray] = {
            "token": self._tokens,
            "pos": self._positions,
            "n_seq_id": self._counts,
            "seq_id": self._lists,
            "logits": self._wanted,
        }
        types: dict[str, Any] = {name: type for name, type, *_ in lib.llama_batch._fields_}
        for name, array in arrays.items():
            setattr(self._batch, name, ctypes.cast(array.ctypes.data, types[name]))

    @property
    def pointer(self) -> object:
        """The llama_context, for calls that this class does not wrap."""
        return self._pointer

    def put(self, tokens: list[int], start: int, sequences: list[int], *, wants_logits: bool) -> int | None:
        """Add tokens at positions from `start` to all the sequences; the row of the last one's logits, if wanted.

        The caller sees to it that a batch holds at most `n_batch` tokens.
        """
        a, b = self._n_tokens, self._n_tokens + len(tokens)
        assert tokens and b <= self.n_batch, (len(tokens), b)
        self._tokens[a:b] = tokens
        self._positions[a:b] = range(start, start + len(tokens))
        self._counts[a:b] = len(sequences)
        self._sequences[a:b, : len(sequences)] = sequences
        self._wanted[a:b] = 0
        self._n_tokens = b
        if not wants_logits:
            return None
        self._wanted[b - 1] = 1
        self._n_rows += 1
        return self._n_rows - 1

    def decode(self) -> bool:
        """Compute what was put since the last time; False when the pool has no room for it (nothing changed)."""
        n_tokens, self._n_tokens, self._read_rows = self._n_tokens, 0, self._n_rows
        self._n_rows = 0
        self._batch.n_tokens = n_tokens
        log().clear()
        answer = self._compute()
        if answer in (DECODED, NO_ROOM):
            return answer == DECODED
        raise SgError(f"llama.cpp could not decode a batch of {n_tokens} tokens: {log().cause() or answer}.")

    def discard(self) -> None:
        """Forget what was put and not decoded."""
        self._n_tokens = self._n_rows = 0

    def logits(self) -> np.ndarray:
        """Logits of the last decode, float32 (rows, vocabulary). A view: gone with the next decode."""
        shape = (self._read_rows, self._vocab_size)
        return np.ctypeslib.as_array(lib.llama_get_logits(self._pointer), shape)

    def share(self, source: int, target: int, n_tokens: int) -> None:
        """Let `target` begin with the first `n_tokens` of `source`, without a copy."""
        lib.llama_memory_seq_cp(self._memory, source, target, 0, n_tokens)

    def copy(self, source: Context, sequence: int) -> bool:
        """Let a sequence of another context of the same model, which computes nothing now, stand here too.

        False where there is no room for it.
        """
        size = lib.llama_state_seq_get_size(source.pointer, sequence)
        data = (ctypes.c_uint8 * size)()
        n_read = lib.llama_state_seq_get_data(source.pointer, data, size, sequence)
        if n_read == size and lib.llama_state_seq_set_data(self._pointer, data, size, sequence) == size:
            return True
        self.forget(sequence)
        return False

    def forget(self, sequence: int, start: int = 0) -> None:
        """Drop a sequence from position `start` on; of a closed context, whose work ends late, nothing is left."""
        if self._pointer is not None:
            lib.llama_memory_seq_rm(self._memory, sequence, start, -1)

    def clear(self) -> None:
        """Drop all sequences."""
        lib.llama_memory_clear(self._memory, False)

    def interrupt(self, *, wanted: bool = True) -> None:
        """End what is being computed, or else the next decode, from another thread: it raises SgError."""
        self._flag[0] = b"\1" if wanted else b"\0"

    def close(self) -> None:
        """Free the context. Nothing else may be called afterwards."""
        if self._owns_crew:
            self.crew.close()
        if self._pointer is not None:
            lib.llama_free(self._pointer)
            self._pointer = None

    def _compute(self) -> int:
        """One decode, by as many threads as the machine has time for.

        A batch of one token is always computed by all of them: its attention is cut into as many parts as there are
        threads, which would change the sums. Everything else comes out the same to the bit, however many compute.
        """
        crew, follows = self.crew, self.plan.follows and self._batch.n_tokens > 1
        n, worker = self.plan.n_threads, crew.all
        if crew.limit is not None and self._batch.n_tokens > 1:
            n, worker, follows = min(n, crew.limit), crew.own, False
        elif follows:
            n = crew.threads.n
        lib.llama_set_n_threads(self._pointer, self.plan.n_threads, n)
        began, cpu = time.perf_counter(), time.process_time()
        answer = self._decoded(worker)
        if follows:
            seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
            crew.threads.observe(Observation(self._batch.n_tokens, seconds, cpu_s))
        return answer

    def _decoded(self, worker: concurrent.futures.ThreadPoolExecutor) -> int:
        future = worker.submit(lib.llama_decode, self._pointer, self._batch)
        try:
            answer: int = future.result()
            self._flag[0] = b"\0"
            return answer
        except KeyboardInterrupt:
            self._flag[0] = b"\1"
            concurrent.futures.wait([future])
            self._flag[0] = b"\0"
            raise

    def _open(self, model: object) -> object:
        params = lib.llama_context_default_params()
        params.n_ctx = self.n_cells
        params.n_batch = params.n_ubatch = self.n_batch
        params.n_seq_max = MAX_SEQUENCES
        params.n_threads = params.n_threads_batch = self.plan.n_threads
        params.flash_attn_type = lib.LLAMA_FLASH_ATTN_TYPE_AUTO
        params.kv_unified = params.swa_full = params.no_perf = True
        # The abort callback is asked before every node of the graph, so it must not be Python: strlen of the flag,
        # which is "" or one character, says 0 or 1 at no cost.
        params.abort_callback = ctypes.cast(ctypes.CDLL(None).strlen, type(params.abort_callback))
        params.abort_callback_data = ctypes.addressof(self._flag)
        if self.plan.on_node is not None:
            params.cb_eval = self.plan.on_node
        log().clear()
        pointer = lib.llama_init_from_model(model, params)
        if not pointer:
            hint = "A smaller `engine.n_ctx` or `engine.n_parallel=` needs less memory."
            n_bytes = size(self.n_cells * cell_bytes(model))
            what = f"a context of {self.n_cells} tokens, which takes {n_bytes} of memory"
            raise SgError(f"llama.cpp could not make {what}: {log().cause()}.", hint)
        return pointer


def _one_thread() -> concurrent.futures.ThreadPoolExecutor:
    return concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="llama-decode")


def pool_size(model: object, plan: ContextPlan) -> int:
    """Cells in the pool (footprint.pool_cells)."""
    return pool_cells(plan.n_ctx, plan.n_parallel, cell_bytes(model), plan.n_batch, plan.n_pools)


def cell_bytes(model: object) -> int:
    """Bytes of one token's keys and values over all layers, in F16."""
    usual = lib.llama_model_n_embd(model) // max(1, lib.llama_model_n_head(model))
    key, value = (_metadata(model, f"attention.{name}_length", usual) for name in ("key", "value"))
    n_heads: int = lib.llama_model_n_head_kv(model) * lib.llama_model_n_layer(model)
    return 2 * n_heads * (key + value)


def _metadata(model: object, key: str, default: int) -> int:
    """A number of the model's metadata, by its key behind the architecture's name."""
    text = ctypes.create_string_buffer(64)
    if lib.llama_model_meta_val_str(model, b"general.architecture", text, len(text)) < 0:
        return default
    full = f"{text.value.decode()}.{key}".encode()
    found = lib.llama_model_meta_val_str(model, full, text, len(text)) >= 0 and text.value.isdigit()
    return int(text.value) if found else default
