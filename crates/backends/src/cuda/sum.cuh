// One sum in f64, for kernels that add up many terms.
#pragma once

// A sum; `Sum<true>` with what its additions have lost. Terms of the narrower types lose nothing that matters in f64.
template <bool EXACT> struct Sum {
    double sum = 0.0;
    __device__ __forceinline__ void add(double x) { sum += x; }
    __device__ __forceinline__ void merge(const Sum& other) { add(other.sum); }
    // With each number read elsewhere: from another lane.
    template <typename Read> __device__ __forceinline__ Sum elsewhere(Read read) const { return {read(sum)}; }
    __device__ __forceinline__ double value() const { return sum; }
};

template <> struct Sum<true> {
    double sum = 0.0, lost = 0.0;
    __device__ __forceinline__ void add(double x) {
        double next = sum + x, kept = next - sum;
        lost += (sum - (next - kept)) + (x - kept);
        sum = next;
    }
    __device__ __forceinline__ void merge(const Sum& other) {
        add(other.sum);
        lost += other.lost;
    }
    template <typename Read> __device__ __forceinline__ Sum elsewhere(Read read) const { return {read(sum), read(lost)}; }
    __device__ __forceinline__ double value() const { return isfinite(sum) ? sum + lost : sum; }
};
