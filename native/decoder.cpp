// What Python opens for generating (glassgpt/native/decoder.py): makes a decoder of the chosen tier, checks what it is
// asked, and runs it on threads of its own.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#if defined(__x86_64__) || defined(_M_X64)
#include <immintrin.h>
#endif

#include "tiers.h"

namespace {

// A short wait is spent looking, because to sleep and be woken takes longer than most steps; after that, others may
// have the core: they may be what is waited for.
constexpr int LOOKS = 5000, LOOKS_BETWEEN_CALLS = 20000;
constexpr int64_t FEW_ROWS = 8;  // so many are a token with a draft, or the tokens of a few texts

inline void pause() {
#if defined(__x86_64__) || defined(_M_X64)
    _mm_pause();
#endif
}

// A number that threads wait for to change.
class Signal {
  public:
    int64_t value() const { return number.load(std::memory_order_acquire); }
    void set(int64_t next) {
        number.store(next);
        if (!sleepers.load()) return;  // whoever comes now sees the number before it sleeps
        std::lock_guard<std::mutex> lock(mutex);
        wake.notify_all();
    }
    void await_change(int64_t from, int looks) {
        for (int i = 0; i < looks; i++) {
            if (value() != from) return;
            pause();
        }
        sleepers.fetch_add(1);
        {
            std::unique_lock<std::mutex> lock(mutex);
            wake.wait(lock, [&] { return number.load() != from; });
        }
        sleepers.fetch_sub(1);
    }

  private:
    alignas(64) std::atomic<int64_t> number{0};
    std::atomic<int64_t> sleepers{0};
    std::mutex mutex;
    std::condition_variable wake;
};

// Where the threads wait for each other, hundreds of times a token.
class Meeting {
  public:
    explicit Meeting(int64_t size) : size(size), missing(size) {}
    void wait() {
        int64_t mine = round.value();
        if (missing.fetch_sub(1) == 1) {
            missing.store(size);
            round.set(mine + 1);
        } else {
            round.await_change(mine, LOOKS);
        }
    }

  private:
    const int64_t size;
    alignas(64) std::atomic<int64_t> missing;
    Signal round;
};

// The caller's thread and others, which live as long as this and sleep while there is nothing to do.
class Crew {
  public:
    explicit Crew(int64_t threads) : all_done(threads) {
        try {
            for (int64_t thread = 1; thread < threads; thread++) others.emplace_back([this, thread] { serve(thread); });
        } catch (...) {
            leave();
            throw;
        }
    }
    ~Crew() { leave(); }
    // Calls task(thread) in every thread and returns when all have.
    template <class Task>
    void run(const Task &task) {
        call = [](const void *what, int64_t thread) { (*(const Task *)what)(thread); };
        argument = &task;
        orders.set(orders.value() + 1);
        task(0);
        all_done.wait();
    }

  private:
    void serve(int64_t thread) {
        for (int64_t done = 0;; done++) {
            orders.await_change(done, LOOKS_BETWEEN_CALLS);
            if (over) return;
            call(argument, thread);
            all_done.wait();
        }
    }
    void leave() {
        over = true;
        orders.set(orders.value() + 1);
        for (std::thread &other : others) other.join();
    }
    std::vector<std::thread> others;
    Signal orders;
    Meeting all_done;
    bool over = false;
    void (*call)(const void *, int64_t) = nullptr;
    const void *argument = nullptr;
};

// Whether the next token is computed by all threads or by the caller's alone. Threads that wait for each other are
// held up for milliseconds where another program has the core that one of them needs; a small model then is written
// faster by one thread. The text does not depend on it.
class Pace {
  public:
    bool is_alone() const { return alone_for > 0; }
    void took(double seconds) {
        if (alone_for > 0) {
            alone = seconds;
            alone_for--;
            awake = false;
            return;
        }
        if (!awake) {  // the others had to be woken first
            awake = true;
            return;
        }
        if (best == 0 || seconds < best) best = seconds;
        bool held_up = seconds > HELD_UP * best && seconds > SHORT && (alone == 0 || alone < seconds);
        patience = !held_up ? 1 : patience < LONGEST ? 2 * patience : LONGEST;
        if (held_up) alone_for = patience / 2;
    }

  private:
    static constexpr double HELD_UP = 3, SHORT = 200e-6;  // times the best; seconds
    static constexpr int64_t LONGEST = 1024;              // twice the tokens until the threads are tried again
    double best = 0, alone = 0;                           // seconds of a token: the best of all threads, the last of one
    int64_t alone_for = 0, patience = 1;
    bool awake = false;
};

struct Decoder {
    Pace pace;
    Shape shape;
    Room room;
    DecodeKernel kernel;
    void *handle = nullptr;
    std::vector<int64_t> lengths;  // positions that each slot holds
    std::vector<int64_t> positions, logit_rows, next_task;
    std::unique_ptr<Meeting> meeting;
    std::unique_ptr<Crew> crew;
    ~Decoder() {
        crew.reset();
        if (handle) kernel.free(handle);
    }
};

// What may be wrong with a call; glassgpt/native/decoder.py says it in words.
enum Refusal { FINE, WRONG_SLOT, SLOT_TWICE, WRONG_START, TOO_LONG, NO_TOKENS, TOO_MANY_ROWS, WRONG_SCORES, WRONG_ID };

Refusal check(const Decoder &d, const Spans &spans, const int64_t *n_logits) {
    if (spans.n_spans < 1) return NO_TOKENS;
    int64_t rows = 0;
    for (int64_t i = 0; i < spans.n_spans; i++) {
        int64_t slot = spans.slots[i], start = spans.starts[i], count = spans.counts[i];
        if (slot < 0 || slot >= d.room.n_slots) return WRONG_SLOT;
        for (int64_t j = 0; j < i; j++)
            if (spans.slots[j] == slot) return SLOT_TWICE;
        if (start < 0 || start > d.lengths[size_t(slot)]) return WRONG_START;
        if (count < 1) return NO_TOKENS;
        if (count > d.shape.context_length || start + count > d.shape.context_length) return TOO_LONG;
        if (count > d.room.max_rows - rows) return TOO_MANY_ROWS;
        if (n_logits[i] < 0 || n_logits[i] > count) return WRONG_SCORES;
        rows += count;
    }
    for (int64_t i = 0; i < rows; i++)
        if (spans.ids[i] < 0 || spans.ids[i] >= d.shape.vocab_size) return WRONG_ID;
    return FINE;
}

}  // namespace

extern "C" {

// Null where memory does not suffice. What the pointers point to must live as long as the decoder.
OPEN void *glassgpt_decoder(const Shape *shape, const Room *room, const Packed *matrices, const float *const *vectors) {
    try {
        auto d = std::make_unique<Decoder>();
        d->shape = *shape, d->room = *room;
        d->kernel = chosen_tier().decode;
        d->lengths.assign(size_t(room->n_slots), 0);
        d->positions.resize(size_t(room->max_rows));
        d->logit_rows.resize(size_t(room->max_rows));
        d->next_task.resize(size_t(shape->n_layers));
        d->handle = d->kernel.make(shape, room, matrices, vectors);
        if (!d->handle) return nullptr;
        d->meeting = std::make_unique<Meeting>(shape->threads);
        d->crew = std::make_unique<Crew>(shape->threads);
        return d.release();
    } catch (const std::exception &) {  // no memory, or no more threads
        return nullptr;
    }
}

OPEN void glassgpt_decoder_free(void *handle) { delete (Decoder *)handle; }

// Computes the spans; `logits` (sum of n_logits, vocab_size rounded up to 16). Returns why it refuses, 0: it did not.
OPEN int64_t glassgpt_decoder_forward(void *handle, int64_t n_spans, const int64_t *slots, const int64_t *starts,
                                      const int64_t *counts, const int64_t *n_logits, const int64_t *ids, float *logits) {
    auto &d = *(Decoder *)handle;
    Spans spans{};
    spans.n_spans = n_spans, spans.slots = slots, spans.starts = starts, spans.counts = counts;
    spans.ids = ids, spans.logits = logits;
    if (Refusal refusal = check(d, spans, n_logits)) return refusal;
    int64_t n_scored = 0, n_rows = 0;
    for (int64_t i = 0; i < n_spans; i++) {
        for (int64_t j = 0; j < counts[i]; j++) d.positions[size_t(n_rows + j)] = starts[i] + j;
        n_rows += counts[i];
        for (int64_t j = n_logits[i]; j > 0; j--) d.logit_rows[size_t(n_scored++)] = n_rows - j;
        d.lengths[size_t(slots[i])] = starts[i] + counts[i];
    }
    d.next_task.assign(d.next_task.size(), 0);
    spans.n_rows = n_rows, spans.n_logits = n_scored;
    spans.positions = d.positions.data(), spans.logit_rows = d.logit_rows.data(), spans.next_task = d.next_task.data();
    auto began = std::chrono::steady_clock::now();
    if (n_rows <= FEW_ROWS && d.pace.is_alone()) {
        spans.threads = 1;
        spans.meet = [](void *) {};
        d.kernel.run(d.handle, 0, &spans);
    } else {
        spans.threads = d.shape.threads;
        spans.meet = [](void *meeting) { ((Meeting *)meeting)->wait(); };
        spans.meeting = d.meeting.get();
        d.crew->run([&](int64_t thread) { d.kernel.run(d.handle, thread, &spans); });
    }
    if (n_rows == 1 && d.shape.threads > 1)
        d.pace.took(std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count());
    return FINE;
}

// Slot `target` begins with the first `length` positions of `source`.
OPEN int64_t glassgpt_decoder_copy(void *handle, int64_t source, int64_t target, int64_t length) {
    auto &d = *(Decoder *)handle;
    if (source < 0 || source >= d.room.n_slots || target < 0 || target >= d.room.n_slots) return WRONG_SLOT;
    if (length < 0 || length > d.lengths[size_t(source)]) return WRONG_START;
    if (source != target) d.kernel.copy(d.handle, source, target, length);
    d.lengths[size_t(target)] = length;
    return FINE;
}

// Reads all weights that a token needs, with all threads.
OPEN int64_t glassgpt_decoder_read(void *handle) {
    auto &d = *(Decoder *)handle;
    std::atomic<int64_t> sum{0};
    d.crew->run([&](int64_t thread) { sum += d.kernel.read(d.handle, thread); });
    return sum;
}

// The token that is drawn from these scores after the text `ids`, which is read only for a repetition penalty.
// -1: the scores are no numbers; -2: there is no memory for it; -3: one of the ids is no token.
OPEN int64_t glassgpt_choose(const float *scores, int64_t vocab_size, const Choice *choice, const int64_t *ids, int64_t n_ids) {
    static const DecodeKernel kernel = chosen_tier().decode;
    for (int64_t i = 0; ids && i < n_ids; i++)
        if (ids[i] < 0 || ids[i] >= vocab_size) return -3;
    std::unique_ptr<double[]> room(new (std::nothrow) double[size_t(3 * vocab_size)]);
    return room ? kernel.choose(scores, vocab_size, choice, ids, n_ids, room.get()) : -2;
}

// The panels from `first` to `end` of a matrix in one of the formats. 0 where memory does not suffice.
OPEN int64_t glassgpt_pack(const Source *from, int64_t format, int64_t first, int64_t end, void *values, uint16_t *scales) {
    return chosen_tier().decode.pack(from, format, first, end, values, scales);
}

}  // extern "C"
