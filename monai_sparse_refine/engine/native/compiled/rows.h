// Features row by row: batch normalisation with ReLU, sums over a union, rows by number.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "parallel.h"

namespace {

constexpr int64_t NORM_ROWS = 2048;  // of one task
constexpr int64_t SHORT_ROWS = 64;   // summed in the rows' own precision
constexpr int64_t PATTERN = 64;      // values of one pass of an inner loop, at least

// Several rows at a time, so that inner loops are long and of a fixed length whatever the width.
inline int64_t rows_at_a_time(int64_t width) { return std::max<int64_t>(1, PATTERN / width); }

// (width,) values, once for every row of a pass.
template <class T>
std::vector<T> repeated(const T* values, int64_t width) {
    std::vector<T> result;
    for (int64_t i = 0; i < rows_at_a_time(width); ++i) result.insert(result.end(), values, values + width);
    return result;
}

// Calls work(first value, number of values) for values of rows begin .. end.
template <class Work>
void passes(int64_t begin, int64_t end, int64_t width, const Work& work) {
    const int64_t step = rows_at_a_time(width);
    for (int64_t i = begin; i < end; i += step) work(i * width, std::min(step, end - i) * width);
}

// Sums of `kinds` values per column: add(first value, number, sums) adds a pass to sums (kinds, pass).
template <class T, class Add>
std::vector<double> block_sums(int64_t n, int64_t width, int64_t kinds, int threads, const Add& add) {
    const int64_t tasks = (n + NORM_ROWS - 1) / NORM_ROWS, length = rows_at_a_time(width) * width;
    std::vector<double> partial(static_cast<size_t>(tasks * kinds * width), 0.0);
    parallel(tasks, threads, [&](int64_t task) {
        std::vector<T> sums(static_cast<size_t>(kinds * length));
        double* total = partial.data() + task * kinds * width;
        const int64_t end = std::min(n, (task + 1) * NORM_ROWS);
        for (int64_t start = task * NORM_ROWS; start < end; start += SHORT_ROWS) {
            std::fill(sums.begin(), sums.end(), T(0));
            passes(start, std::min(end, start + SHORT_ROWS), width,
                   [&](int64_t first, int64_t count) { add(first, count, sums.data(), sums.data() + length); });
            for (int64_t kind = 0; kind < kinds; ++kind)
                for (int64_t i = 0; i < length; ++i) total[kind * width + i % width] += sums[kind * length + i];
        }
    });
    std::vector<double> result(static_cast<size_t>(kinds * width), 0.0);
    for (int64_t task = 0; task < tasks; ++task)
        for (int64_t c = 0; c < kinds * width; ++c) result[c] += partial[task * kinds * width + c];
    return result;
}

// mean, variance (width,): of n >= 1 rows, in two passes.
template <class T>
void moments(const T* rows, int64_t n, int64_t width, double* mean, double* variance, int threads) {
    std::vector<double> sums = block_sums<T>(n, width, 1, threads, [&](int64_t first, int64_t count, T* sum, T*) {
        const T* __restrict from = rows + first;
        for (int64_t i = 0; i < count; ++i) sum[i] += from[i];
    });
    std::vector<T> centre(static_cast<size_t>(width));
    for (int64_t c = 0; c < width; ++c) {
        mean[c] = sums[c] / static_cast<double>(n);
        centre[c] = static_cast<T>(mean[c]);
    }
    const std::vector<T> centres = repeated(centre.data(), width);
    sums = block_sums<T>(n, width, 1, threads, [&](int64_t first, int64_t count, T* __restrict sum, T*) {
        const T* __restrict from = rows + first;
        const T* __restrict middle = centres.data();
        for (int64_t i = 0; i < count; ++i) sum[i] += (from[i] - middle[i]) * (from[i] - middle[i]);
    });
    for (int64_t c = 0; c < width; ++c) {
        const double off = mean[c] - static_cast<double>(centre[c]);
        variance[c] = sums[c] / static_cast<double>(n) - off * off;
    }
}

// result = rows * scale + shift, not below 0 if `rectified`.
template <class T>
void scale_rows(const T* rows, const T* scale, const T* shift, T* result, int64_t n, int64_t width, bool rectified,
                int threads) {
    const std::vector<T> scales = repeated(scale, width), shifts = repeated(shift, width);
    const T least = rectified ? T(0) : -std::numeric_limits<T>::infinity();
    parallel_rows(n, NORM_ROWS, threads, [&](int64_t begin, int64_t end) {
        passes(begin, end, width, [&](int64_t first, int64_t count) {
            const T* from = rows + first;
            const T* __restrict a = scales.data();
            const T* __restrict b = shifts.data();
            T* to = result + first;
#pragma GCC ivdep  // result may be rows
            for (int64_t i = 0; i < count; ++i) {
                const T value = from[i] * a[i] + b[i];
                to[i] = value < least ? least : value;
            }
        });
    });
}

// Backward of scale_rows where scale and shift come from the rows' own statistics.
//   sums (2, width): of the gradient, and of the gradient times (rows - mean).
template <class T>
void normalise_sums(const T* gradient, const T* rows, const T* scale, const T* shift, const T* mean, double* sums,
                    int64_t n, int64_t width, bool rectified, int threads) {
    const std::vector<T> scales = repeated(scale, width), shifts = repeated(shift, width), means = repeated(mean, width);
    const T least = rectified ? T(0) : -std::numeric_limits<T>::infinity();
    const std::vector<double> found =
        block_sums<T>(n, width, 2, threads, [&](int64_t first, int64_t count, T* __restrict sum, T* __restrict sum2) {
            const T* __restrict g = gradient + first;
            const T* __restrict x = rows + first;
            const T* __restrict a = scales.data();
            const T* __restrict b = shifts.data();
            const T* __restrict m = means.data();
            for (int64_t i = 0; i < count; ++i) {
                const T value = x[i] * a[i] + b[i] > least ? g[i] : T(0);
                sum[i] += value;
                sum2[i] += value * (x[i] - m[i]);
            }
        });
    std::copy(found.begin(), found.end(), sums);
}

//   result = gradient * scale + rows * factor + constant.
template <class T>
void normalise_backward(const T* gradient, const T* rows, const T* scale, const T* shift, const T* factor,
                        const T* constant, T* result, int64_t n, int64_t width, bool rectified, int threads) {
    const std::vector<T> scales = repeated(scale, width), shifts = repeated(shift, width);
    const std::vector<T> factors = repeated(factor, width), constants = repeated(constant, width);
    const T least = rectified ? T(0) : -std::numeric_limits<T>::infinity();
    parallel_rows(n, NORM_ROWS, threads, [&](int64_t begin, int64_t end) {
        passes(begin, end, width, [&](int64_t first, int64_t count) {
            const T* __restrict g = gradient + first;
            const T* __restrict x = rows + first;
            const T* __restrict a = scales.data();
            const T* __restrict b = shifts.data();
            const T* __restrict f = factors.data();
            const T* __restrict c = constants.data();
            T* __restrict to = result + first;
            for (int64_t i = 0; i < count; ++i) {
                const T value = x[i] * a[i] + b[i] > least ? g[i] : T(0);
                to[i] = value * a[i] + (x[i] * f[i] + c[i]);
            }
        });
    });
}

// result[i] = rows[source[i] - 1], 0 where source[i] is 0.
template <class T>
void take_rows(const T* rows, const int32_t* source, T* result, int64_t n, int64_t width, int threads) {
    parallel_rows(n, NORM_ROWS, threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            if (source[i])
                std::copy_n(rows + int64_t{source[i] - 1} * width, width, result + i * width);
            else
                std::fill_n(result + i * width, width, T(0));
        }
    });
}

// result[target[i]] += rows[i]; no two targets are the same.
template <class T>
void add_rows(const T* rows, const int32_t* target, T* result, int64_t n, int64_t width, int threads) {
    parallel_rows(n, NORM_ROWS, threads, [&](int64_t begin, int64_t end) {
        for (int64_t i = begin; i < end; ++i) {
            const T* from = rows + i * width;
            T* to = result + int64_t{target[i]} * width;
            for (int64_t c = 0; c < width; ++c) to[c] += from[c];
        }
    });
}

}  // namespace
