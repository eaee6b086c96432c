// One sum in f64, for kernels that add up many terms.
#pragma once

// A sum and what its additions have lost. Terms of the narrower types lose nothing that matters in f64.
template <bool EXACT> struct Sum {
    double sum = 0.0, lost = 0.0;
    __device__ __forceinline__ void add(double x) {
        double next = sum + x;
        if constexpr (EXACT) {
            double kept = next - sum;
            lost += (sum - (next - kept)) + (x - kept);
        }
        sum = next;
    }
    __device__ __forceinline__ void merge(double other, double other_lost) {
        add(other);
        if constexpr (EXACT) lost += other_lost;
    }
    __device__ __forceinline__ double value() const { return EXACT && isfinite(sum) ? sum + lost : sum; }
};
