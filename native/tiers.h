// The instructions that this processor has, and what was compiled for them.
#pragma once

#include "interface.h"

struct ChosenTier {
    const char *name;
    Tier train;
    DecodeKernel decode;
};

// The best tier that runs here, or the one that the environment variable GLASSGPT_NATIVE_TIER names, where it does.
ChosenTier chosen_tier();

#if defined(_WIN32)
#define OPEN __declspec(dllexport)
#else
#define OPEN __attribute__((visibility("default")))
#endif
