// What tensor cores multiply: two numbers of 16 bits to a register, or an f32 as a sum of two numbers of TF32's 11 bits.
#pragma once
#include "tiles.cuh"

// The instruction, and what goes with it. It multiplies two chunks of each row.
template <typename T> struct Unit;

// Registers of a factor of a product.
template <typename T, int COUNT> struct Parts {
    uint32_t at[COUNT];
    __device__ __forceinline__ explicit Parts(const uint32_t (&raw)[COUNT]) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) at[i] = raw[i];
    }
};

template <> struct Unit<__half> {
    __device__ static __forceinline__ uint32_t pack(float low, float high) {
        uint32_t both;
        asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
        return both;
    }
    __device__ static __forceinline__ float2 unpack(uint32_t both) {
        return __half22float2(*reinterpret_cast<const __half2*>(&both));
    }
    static constexpr int PASSES = 1;
    // Two numbers next to each other to shared memory, and the sum of the products of two pairs.
    __device__ static __forceinline__ void put(float x, float y, uint32_t at) {
        asm volatile("st.shared.b32 [%0], %1;" ::"r"(at), "r"(pack(x, y)) : "memory");
    }
    __device__ static __forceinline__ float dot(uint32_t x, uint32_t y) {
        float2 u = unpack(x), v = unpack(y);
        return u.x * v.x + u.y * v.y;
    }
    __device__ static __forceinline__ void mma(float (&c)[4], const Parts<__half, 4>& left, const Parts<__half, 4>& right, int half, int) {
        const uint32_t(&a)[4] = left.at;
        asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(right.at[2 * half]), "r"(right.at[2 * half + 1]));
    }
};
template <> struct Unit<__nv_bfloat16> {
    __device__ static __forceinline__ uint32_t pack(float low, float high) {
        uint32_t both;
        asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
        return both;
    }
    __device__ static __forceinline__ float2 unpack(uint32_t both) {
        return make_float2(__uint_as_float(both << 16), __uint_as_float(both & 0xffff0000u));
    }
    static constexpr int PASSES = 1;
    // Two numbers next to each other to shared memory, and the sum of the products of two pairs.
    __device__ static __forceinline__ void put(float x, float y, uint32_t at) {
        asm volatile("st.shared.b32 [%0], %1;" ::"r"(at), "r"(pack(x, y)) : "memory");
    }
    __device__ static __forceinline__ float dot(uint32_t x, uint32_t y) {
        float2 u = unpack(x), v = unpack(y);
        return u.x * v.x + u.y * v.y;
    }
    __device__ static __forceinline__ void mma(float (&c)[4], const Parts<__nv_bfloat16, 4>& left, const Parts<__nv_bfloat16, 4>& right, int half, int) {
        const uint32_t(&a)[4] = left.at;
        asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3]) : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(right.at[2 * half]), "r"(right.at[2 * half + 1]));
    }
};

// An f32 as the TF32 nearest to it and the rest, of which tensor cores read the 11 bits of a TF32: together they are off by
// 2^-23 of it at most. Of what is not finite one of them is not, and neither are their products.
template <int COUNT> struct Parts<float, COUNT> {
    uint32_t large[COUNT], small[COUNT];
    __device__ __forceinline__ explicit Parts(const uint32_t (&raw)[COUNT]) {
#pragma unroll
        for (int i = 0; i < COUNT; ++i) {
            large[i] = (raw[i] + 0x1000u) & 0xffffe000u; // faster than `cvt.rna.tf32.f32`, and a NaN's rest is one
            small[i] = __float_as_uint(__uint_as_float(raw[i]) - __uint_as_float(large[i]));
        }
    }
};
template <> struct Unit<float> {
    static constexpr int PASSES = 3; // the smaller terms first; the product of two small parts is left out
    __device__ static __forceinline__ void put(float x, float y, uint32_t at) {
        asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(at), "f"(x), "f"(y) : "memory");
    }
    __device__ static __forceinline__ float dot(uint32_t x, uint32_t y) { return __uint_as_float(x) * __uint_as_float(y); }
    __device__ static __forceinline__ void mma(float (&c)[4], const Parts<float, 4>& left, const Parts<float, 4>& right, int half, int pass) {
        const uint32_t(&a)[4] = pass == 0 ? left.small : left.large;
        const uint32_t(&b)[4] = pass == 1 ? right.small : right.large;
        asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
            : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
            : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[2 * half]), "r"(b[2 * half + 1]));
    }
};
