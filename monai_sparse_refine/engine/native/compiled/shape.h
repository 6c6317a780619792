// Vectors of a CPU's width, and how many of them a kernel's inner loop holds.
#pragma once

#include <cstdint>

namespace {

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif

template <class T, int LANES>
struct Lanes {
    typedef T type __attribute__((vector_size(LANES * sizeof(T)), aligned(alignof(T)), may_alias));
};

template <class T, int LANES, int VECTORS>
struct Shape {
    using Vector = typename Lanes<T, LANES>::type;
    static constexpr int columns = LANES * VECTORS;
    static constexpr int vectors = VECTORS;
    static constexpr int rows = VECTORS >= 4 ? 4 : 8;  // accumulators must fit the registers
};

constexpr int32_t padding(int32_t out, int32_t columns) { return (columns - out % columns) % columns; }

// Calls function(Shape) with the tile that fits `out` columns.
template <class T, class Function>
void with_shape(int32_t out, const Function& function) {
    constexpr int FULL = VECTOR_BYTES / sizeof(T);
    constexpr int HALF = FULL > 4 ? FULL / 2 : FULL;
    if (out <= HALF)
        function(Shape<T, HALF, 1>());
    else if (out <= FULL)
        function(Shape<T, FULL, 1>());
    else if (out <= 2 * FULL || padding(out, 4 * FULL) > padding(out, 2 * FULL) + FULL)
        function(Shape<T, FULL, 2>());
    else if constexpr (sizeof(T) == sizeof(float))
        function(Shape<T, FULL, 4>());
    else  // double precision is for tests: fewer variants compile faster
        function(Shape<T, FULL, 2>());
}

}  // namespace
