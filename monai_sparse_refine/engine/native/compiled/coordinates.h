// Coordinates as cells of a box: numbering, bounds, membership, distinct ones.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <vector>

#include "neighbours.h"
#include "parallel.h"

namespace {

constexpr int MAX_WIDTH = 8;
constexpr int64_t COORDINATE_ROWS = 1 << 14;  // of one task

// A box of cells; a cell has `step` coordinates along each axis, and number sum((c / step - low) * pitch).
struct Grid {
    int32_t width;          // 1 + D
    const int64_t* step;    // (width,)
    const int64_t* low;     // (width,) first cell
    const int64_t* length;  // (width,) cells
};

inline int64_t floor_divide(int64_t value, int64_t step) {
    const int64_t quotient = value / step;
    return quotient - (value % step < 0);
}

inline int shift_of(int64_t step) { return (step & (step - 1)) == 0 ? __builtin_ctzll(step) : -1; }

// Calls work(row, cell) for rows begin .. end; a row outside the box, or between cells if `aligned`, has cell -1.
template <bool CHECKED, class Work>
void visit_cells(const int32_t* rows, const Grid& grid, int64_t begin, int64_t end, const Work& work) {
    const int32_t width = grid.width;
    int shift[MAX_WIDTH];
    int64_t pitch[MAX_WIDTH], next = 1;
    for (int32_t a = width - 1; a >= 0; --a) {
        pitch[a] = next;
        next *= grid.length[a];
        shift[a] = shift_of(grid.step[a]);
    }
    for (int64_t i = begin; i < end; ++i) {
        const int32_t* row = rows + i * width;
        int64_t cell = 0;
        bool inside = true;
        for (int32_t a = 0; a < width; ++a) {
            const int64_t value = row[a];
            const int64_t c = shift[a] >= 0 ? value >> shift[a] : floor_divide(value, grid.step[a]);
            const int64_t place = c - grid.low[a];
            if (CHECKED) inside &= place >= 0 && place < grid.length[a] && c * grid.step[a] == value;
            cell += place * pitch[a];
        }
        work(i, CHECKED && !inside ? -1 : cell);
    }
}

// low, high (width,): inclusive bounds of n >= 1 rows.
inline void bounds(const int32_t* rows, int64_t n, int32_t width, int32_t* low, int32_t* high, int threads) {
    const int64_t tasks = (n + COORDINATE_ROWS - 1) / COORDINATE_ROWS;
    std::vector<int32_t> found(static_cast<size_t>(tasks) * 2 * width);
    parallel(tasks, threads, [&](int64_t task) {
        int32_t least[MAX_WIDTH], most[MAX_WIDTH];
        std::fill(least, least + width, std::numeric_limits<int32_t>::max());
        std::fill(most, most + width, std::numeric_limits<int32_t>::min());
        const int64_t end = std::min(n, (task + 1) * COORDINATE_ROWS);
        for (int64_t i = task * COORDINATE_ROWS; i < end; ++i)
            for (int32_t a = 0; a < width; ++a) {
                const int32_t value = rows[i * width + a];
                least[a] = std::min(least[a], value);
                most[a] = std::max(most[a], value);
            }
        std::copy(least, least + width, found.begin() + task * 2 * width);
        std::copy(most, most + width, found.begin() + (task * 2 + 1) * width);
    });
    for (int32_t a = 0; a < width; ++a) {
        low[a] = found[a];
        high[a] = found[width + a];
        for (int64_t task = 1; task < tasks; ++task) {
            low[a] = std::min(low[a], found[task * 2 * width + a]);
            high[a] = std::max(high[a], found[(task * 2 + 1) * width + a]);
        }
    }
}

// Number of set bits before each word, and after the last; returns their number.
inline int64_t count_bits(const uint64_t* bits, int64_t words, uint32_t* rank) {
    uint32_t count = 0;
    for (int64_t w = 0; w <= words; ++w) {
        rank[w] = count;
        count += static_cast<uint32_t>(__builtin_popcountll(bits[w]));
    }
    return count;
}

// rows (count, width): the set cells in ascending order.
inline void list_cells(const uint64_t* bits, const uint32_t* rank, int64_t words, const Grid& grid, int32_t* rows,
                       int threads) {
    const int32_t width = grid.width;
    parallel_rows(words, 1 << 12, threads, [&](int64_t begin, int64_t end) {
        for (int64_t w = begin; w < end; ++w) {
            int32_t* row = rows + int64_t{rank[w]} * width;
            for (uint64_t word = bits[w]; word; word &= word - 1, row += width) {
                int64_t cell = (w << 6) + __builtin_ctzll(word);
                for (int32_t a = width - 1; a >= 0; --a) {
                    row[a] = static_cast<int32_t>((cell % grid.length[a] + grid.low[a]) * grid.step[a]);
                    cell /= grid.length[a];
                }
            }
        }
    });
}

}  // namespace
