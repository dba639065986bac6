// Picks the tier. Compiled for any processor of the platform; only the tiers, train.cpp and decode.cpp compiled with
// other flags, use newer instructions.

#include "tiers.h"

#include <cstdlib>
#include <cstring>
#include <vector>

extern "C" {
Tier glassgpt_train_plain();
Tier glassgpt_train_avx2();
Tier glassgpt_train_avx512();
Tier glassgpt_train_avx512_bf16();
DecodeKernel glassgpt_decode_plain();
DecodeKernel glassgpt_decode_avx2();
DecodeKernel glassgpt_decode_avx512();
DecodeKernel glassgpt_decode_avx512_vnni();
}

namespace {

// The tiers that this processor can run, the best first; there is always the last. VNNI multiplies bytes, for the
// decoder; bf16 is for training.
std::vector<ChosenTier> tiers() {
    std::vector<ChosenTier> found;
#ifdef GLASSGPT_AVX2
    __builtin_cpu_init();
    bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
    bool vnni = wide && __builtin_cpu_supports("avx512vnni");
#ifdef GLASSGPT_AVX512_BF16
    if (vnni && __builtin_cpu_supports("avx512bf16"))
        found.push_back({"avx512-bf16", glassgpt_train_avx512_bf16(), glassgpt_decode_avx512_vnni()});
#endif
    if (vnni) found.push_back({"avx512-vnni", glassgpt_train_avx512(), glassgpt_decode_avx512_vnni()});
    if (wide) found.push_back({"avx512", glassgpt_train_avx512(), glassgpt_decode_avx512()});
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        found.push_back({"avx2", glassgpt_train_avx2(), glassgpt_decode_avx2()});
#endif
    found.push_back({"plain", glassgpt_train_plain(), glassgpt_decode_plain()});
    return found;
}

}  // namespace

ChosenTier chosen_tier() {
    std::vector<ChosenTier> found = tiers();
    const char *wanted = std::getenv("GLASSGPT_NATIVE_TIER");
    for (const ChosenTier &tier : found)
        if (wanted && std::strcmp(wanted, tier.name) == 0) return tier;
    return found.front();
}

extern "C" {

OPEN const char *glassgpt_tier() { return chosen_tier().name; }

OPEN int64_t glassgpt_has_bf16() { return chosen_tier().train.bf16.make != nullptr; }

}  // extern "C"
