// What Python opens for training (glassgpt/native/trainer.py): makes a trainer of the chosen tier, runs a step on a few
// threads and adds their gradients up.

#include <cmath>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>
#include <thread>
#include <vector>

#include "tiers.h"

namespace {

// Where the threads of a step wait for each other.
class Meeting {
  public:
    explicit Meeting(int64_t size) : size(size), missing(size) {}
    void wait() {
        std::unique_lock<std::mutex> lock(mutex);
        int64_t mine = round;
        if (--missing == 0) {
            missing = size;
            round++;
            everyone.notify_all();
        } else {
            everyone.wait(lock, [&] { return round != mine; });
        }
    }

  private:
    std::mutex mutex;
    std::condition_variable everyone;
    int64_t size, missing, round = 0;
};

struct Trainer {
    Kernel kernel;
    void *handle = nullptr;
    int64_t threads, n_slots;
    std::vector<int64_t> sizes;                // of the tensors, by slot; 0: absent
    std::vector<float> others;                 // gradients of all threads but the first, which has the caller's
    std::vector<std::vector<float *>> slots;   // of each thread
    ~Trainer() {
        if (handle) kernel.free(handle);
    }
};

// Adds the gradients of the other threads to the first's, over this thread's share; returns the sum of squares.
double add_up(Trainer &trainer, int64_t thread, float *const *gradients) {
    double squares = 0;
    for (int64_t slot = 0; slot < trainer.n_slots; slot++) {
        if (!gradients[slot]) continue;
        int64_t first = trainer.sizes[slot] * thread / trainer.threads;
        int64_t end = trainer.sizes[slot] * (thread + 1) / trainer.threads;
        float *sum = gradients[slot];
        for (int64_t block = first; block < end; block += 4096) {  // in the cache while all threads' are added
            int64_t stop = block + 4096 < end ? block + 4096 : end;
            for (int64_t other = 1; other < trainer.threads; other++) {
                const float *more = trainer.slots[other][slot];
                for (int64_t i = block; i < stop; i++) sum[i] += more[i];
            }
            float part[16] = {};  // sums side by side, so that the compiler may add them at once
            for (int64_t i = block; i + 16 <= stop; i += 16)
                for (int64_t j = 0; j < 16; j++) part[j] += sum[i + j] * sum[i + j];
            for (int64_t i = stop - (stop - block) % 16; i < stop; i++) part[0] += sum[i] * sum[i];
            for (float value : part) squares += double(value);
        }
    }
    return squares;
}

}  // namespace

extern "C" {

// `sizes` counts the elements of each tensor by slot, 0 where there is none. Null where memory does not suffice.
OPEN void *glassgpt_trainer(const Shape *shape, int64_t bf16, const int64_t *sizes) {
    try {
        auto trainer = std::make_unique<Trainer>();
        Tier tier = chosen_tier().train;
        trainer->kernel = bf16 ? tier.bf16 : tier.fp32;
        trainer->threads = shape->threads;
        trainer->n_slots = MODEL_TENSORS + shape->n_layers * BLOCK_TENSORS;
        trainer->sizes.assign(sizes, sizes + trainer->n_slots);
        int64_t total = 0;
        for (int64_t size : trainer->sizes) total += size;
        trainer->others.resize(size_t(total * (shape->threads - 1)));
        float *next = trainer->others.data();
        trainer->slots.assign(size_t(shape->threads), std::vector<float *>(size_t(trainer->n_slots), nullptr));
        for (int64_t thread = 1; thread < shape->threads; thread++)
            for (int64_t slot = 0; slot < trainer->n_slots; slot++) {
                if (!sizes[slot]) continue;
                trainer->slots[size_t(thread)][size_t(slot)] = next;
                next += sizes[slot];
            }
        trainer->handle = trainer->kernel.make(shape);
        return trainer->handle ? trainer.release() : nullptr;
    } catch (const std::bad_alloc &) {
        return nullptr;
    }
}

OPEN void glassgpt_trainer_free(void *handle) { delete (Trainer *)handle; }

// One forward pass, and where batch->backward one backward pass. Writes the gradients, and their squared norm.
OPEN void glassgpt_trainer_step(void *handle, const float *const *weights, const Batch *batch, float *const *gradients,
                           double *squared_norm) {
    auto &trainer = *(Trainer *)handle;
    Meeting meeting(trainer.threads);
    std::vector<double> squares(size_t(trainer.threads), 0.0);
    auto share = [&](int64_t thread) {
        trainer.kernel.pack(trainer.handle, thread, weights);
        meeting.wait();
        trainer.kernel.work(trainer.handle, thread, weights, batch,
                            thread ? trainer.slots[size_t(thread)].data() : gradients);
        if (!batch->backward) return;
        meeting.wait();
        squares[size_t(thread)] = add_up(trainer, thread, gradients);
    };
    std::vector<std::thread> others;
    for (int64_t thread = 1; thread < trainer.threads; thread++) others.emplace_back(share, thread);
    share(0);
    for (std::thread &other : others) other.join();
    *squared_norm = 0;
    for (double part : squares) *squared_norm += part;
}

}  // extern "C"
