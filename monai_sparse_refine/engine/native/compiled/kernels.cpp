// Kernels of the native engine for a CPU, compiled on first use and called through ctypes.
//
// One contract for all: every value is computed by one task in an order that does not depend on the number of
// threads, so results are the same bits for any number. Row numbers in tables are row + 1, and 0 where there
// is none. No Python, no PyTorch, no global state: pointers to contiguous arrays and 64-bit integers in; out a
// count, or 0, and 1 where there was no memory.

#include "coordinates.h"
#include "gradient.h"
#include "neighbours.h"
#include "parallel.h"
#include "product.h"
#include "rows.h"
#include "single.h"

extern "C" {

// Inclusive bounds low, high (width,) of n >= 1 rows.
int64_t coordinate_bounds(const int32_t* rows, int64_t n, int64_t width, int32_t* low, int32_t* high,
                          int64_t threads) {
    return guarded([&] { bounds(rows, n, width, low, high, threads); });
}

// keys (n,): the cell of every row, all of them inside.
int64_t coordinate_keys(const int32_t* rows, int64_t n, const Grid* grid, int32_t* keys, int64_t threads) {
    return guarded([&] {
        parallel_rows(n, COORDINATE_ROWS, threads, [&](int64_t begin, int64_t end) {
            visit_cells<false>(rows, *grid, begin, end,
                               [&](int64_t i, int64_t cell) { keys[i] = static_cast<int32_t>(cell); });
        });
    });
}

// found (n,): row + 1 of any coordinates, 0 where there is none.
int64_t coordinate_find(const int32_t* rows, int64_t n, const Grid* grid, const uint64_t* bits, const uint32_t* rank,
                        const int32_t* order, int32_t* found, int64_t threads) {
    const Index index{bits, rank, order};
    return guarded([&] {
        parallel_rows(n, COORDINATE_ROWS, threads, [&](int64_t begin, int64_t end) {
            visit_cells<true>(rows, *grid, begin, end,
                              [&](int64_t i, int64_t cell) { found[i] = cell < 0 ? 0 : index.at(cell); });
        });
    });
}

// Fills bits (words + 1, zeroed) with the cells of the rows, and rank (words + 1). Returns their number.
int64_t cells_mark(const int32_t* rows, int64_t n, const Grid* grid, int64_t words, uint64_t* bits, uint32_t* rank) {
    visit_cells<false>(rows, *grid, 0, n,
                       [&](int64_t, int64_t cell) { bits[cell >> 6] |= uint64_t{1} << (cell & 63); });
    return count_bits(bits, words, rank);
}

// rows (count, width): the marked cells in ascending order.
int64_t cells_list(const uint64_t* bits, const uint32_t* rank, int64_t words, const Grid* grid, int32_t* rows,
                   int64_t threads) {
    return guarded([&] { list_cells(bits, rank, words, *grid, rows, threads); });
}

// target (n,): the united row of every row, given where it was found (row + 1) among the `first` rows there; those
// not found follow in their order. Returns the number of united rows.
int64_t union_targets(const int32_t* found, int64_t n, int64_t first, int32_t* target) {
    int64_t next = first;
    for (int64_t i = 0; i < n; ++i) target[i] = found[i] ? found[i] - 1 : static_cast<int32_t>(next++);
    return next;
}

// Fills bits (words + 1, zeroed), rank (words + 1) and order (n + 1). Returns 1 if rows are in the order of their
// cells (order is then not needed), 0 if not, -1 if two rows share a cell.
int64_t index_build(const int32_t* keys, int64_t n, int64_t words, uint64_t* bits, uint32_t* rank, int32_t* order) {
    bool ascending = true;
    int64_t previous = -1;
    for (int64_t i = 0; i < n; ++i) {
        ascending = ascending && keys[i] > previous;
        previous = keys[i];
        bits[keys[i] >> 6] |= uint64_t{1} << (keys[i] & 63);
    }
    const int64_t count = count_bits(bits, words, rank);
    if (ascending) return 1;
    order[0] = 0;
    for (int64_t i = 0; i < n; ++i) {
        const int64_t w = keys[i] >> 6;
        const uint64_t below = bits[w] & ((uint64_t{1} << (keys[i] & 63)) - 1);
        order[1 + rank[w] + __builtin_popcountll(below)] = static_cast<int32_t>(i + 1);
    }
    return count == n ? 0 : -1;
}

int64_t index_at(const uint64_t* bits, const uint32_t* rank, const int32_t* order, const int32_t* cells, int64_t n,
                 int32_t* rows, int64_t threads) {
    const Index index{bits, rank, order};
    return guarded([&] {
        parallel_rows(n, 1 << 15, threads, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) rows[i] = index.at(cells[i]);
        });
    });
}

// (n, volume) row + 1 of every neighbour.
int64_t neighbour_table(const Neighbours* neighbours, int64_t n, int32_t* table, int64_t threads) {
    return guarded([&] {
        const int32_t volume = neighbours->volume;
        parallel_rows(n, BLOCK * 8, threads, [&](int64_t begin, int64_t end) {
            std::vector<int32_t> rows(static_cast<size_t>(volume) * BLOCK);
            for (int64_t start = begin; start < end; start += BLOCK) {
                const int count = static_cast<int>(std::min<int64_t>(BLOCK, end - start));
                neighbours->look_up(start, count, rows.data());
                for (int i = 0; i < count; ++i)
                    for (int32_t k = 0; k < volume; ++k) table[(start + i) * volume + k] = rows[k * BLOCK + i];
            }
        });
    });
}

// positions[row] = i * volume + k + 1 for every neighbour: where each of them was met. No two may coincide.
int64_t neighbour_positions(const Neighbours* neighbours, int64_t n, int32_t* positions, int64_t threads) {
    return guarded([&] {
        const int32_t volume = neighbours->volume;
        parallel_rows(n, BLOCK * 8, threads, [&](int64_t begin, int64_t end) {
            std::vector<int32_t> rows(static_cast<size_t>(volume) * BLOCK);
            for (int64_t start = begin; start < end; start += BLOCK) {
                const int count = static_cast<int>(std::min<int64_t>(BLOCK, end - start));
                neighbours->look_up(start, count, rows.data());
                for (int32_t k = 0; k < volume; ++k)
                    for (int i = 0; i < count; ++i)
                        if (const int32_t row = rows[k * BLOCK + i])
                            positions[row - 1] = static_cast<int32_t>((start + i) * volume + k + 1);
            }
        });
    });
}

#define FOR_TYPE(T, NAME)                                                                                            \
    int64_t convolve_##NAME(const T* source, const T* kernel, const T* bias, T* result, int64_t in, int64_t out,     \
                            int64_t transposed, int64_t mirrored, int64_t rectified, const Neighbours* neighbours,  \
                            int64_t total, int64_t threads) {                                                        \
        return convolve<T>(source, kernel, bias, result, in, out, transposed, mirrored, rectified, neighbours,       \
                           total, threads);                                                                          \
    }                                                                                                                \
    int64_t kernel_gradient_##NAME(const T* gathered, const T* straight, T* result, int64_t in, int64_t out,         \
                                   const Neighbours* neighbours, int64_t total, int64_t threads) {                   \
        return kernel_gradient<T>(gathered, straight, result, in, out, neighbours, total, threads);                  \
    }                                                                                                                \
    int64_t convolve_single_##NAME(const T* source, const T* kernel, const int32_t* positions, T* result,            \
                                   int64_t volume, int64_t in, int64_t out, int64_t transposed, int64_t total,       \
                                   int64_t threads) {                                                                \
        return convolve_single<T>(source, kernel, positions, result, volume, in, out, transposed, total, threads);   \
    }

#define FOR_TYPE_ROWS(T, NAME)                                                                                       \
    int64_t moments_##NAME(const T* rows, int64_t n, int64_t width, double* mean, double* variance,                  \
                           int64_t threads) {                                                                        \
        return guarded([&] { moments(rows, n, width, mean, variance, threads); });                                   \
    }                                                                                                                \
    int64_t scale_rows_##NAME(const T* rows, const T* scale, const T* shift, T* result, int64_t n, int64_t width,    \
                              int64_t rectified, int64_t threads) {                                                  \
        return guarded([&] { scale_rows(rows, scale, shift, result, n, width, rectified != 0, threads); });          \
    }                                                                                                                \
    int64_t normalise_sums_##NAME(const T* gradient, const T* rows, const T* scale, const T* shift, const T* mean,   \
                                  double* sums, int64_t n, int64_t width, int64_t rectified, int64_t threads) {      \
        return guarded([&] {                                                                                         \
            normalise_sums(gradient, rows, scale, shift, mean, sums, n, width, rectified != 0, threads);             \
        });                                                                                                          \
    }                                                                                                                \
    int64_t normalise_backward_##NAME(const T* gradient, const T* rows, const T* scale, const T* shift,              \
                                      const T* factor, const T* constant, T* result, int64_t n, int64_t width,       \
                                      int64_t rectified, int64_t threads) {                                          \
        return guarded([&] {                                                                                         \
            normalise_backward(gradient, rows, scale, shift, factor, constant, result, n, width, rectified != 0,     \
                               threads);                                                                             \
        });                                                                                                          \
    }                                                                                                                \
    int64_t take_rows_##NAME(const T* rows, const int32_t* source, T* result, int64_t n, int64_t width,              \
                             int64_t threads) {                                                                      \
        return guarded([&] { take_rows(rows, source, result, n, width, threads); });                                 \
    }                                                                                                                \
    int64_t add_rows_##NAME(const T* rows, const int32_t* target, T* result, int64_t n, int64_t width,               \
                            int64_t threads) {                                                                       \
        return guarded([&] { add_rows(rows, target, result, n, width, threads); });                                  \
    }

FOR_TYPE(float, float32)
FOR_TYPE(double, float64)
FOR_TYPE_ROWS(float, float32)
FOR_TYPE_ROWS(double, float64)

}  // extern "C"
