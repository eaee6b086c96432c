// The generator of `random.rs`.
#pragma once
#include <cstdint>

// The finalizer of SplitMix64 over a counter.
__device__ __forceinline__ uint32_t random_bits(uint64_t key, uint64_t index) {
    uint64_t z = key + index * 0x9e3779b97f4a7c15ull;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return uint32_t((z ^ (z >> 31)) >> 32);
}
