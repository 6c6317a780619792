// Occupied cells as an index, and the rows under a kernel.
#pragma once

#include <algorithm>
#include <cstdint>

namespace {

constexpr int BLOCK = 128;  // rows whose neighbours are looked up at a time

// Set of cells as bits, with the number of set bits before each word: the place of a cell among the occupied
// ones, from 1 on. `order` turns it into a row (0 into 0); without it rows are in the order of their cells.
struct Index {
    const uint64_t* bits;
    const uint32_t* rank;
    const int32_t* order;

    int32_t at(int64_t cell) const {
        const uint64_t word = bits[cell >> 6];
        const uint64_t bit = uint64_t{1} << (cell & 63);
        if (!(word & bit)) return 0;
        const int32_t place = static_cast<int32_t>(rank[cell >> 6] + __builtin_popcountll(word & (bit - 1))) + 1;
        return order ? order[place] : place;
    }
};

// Where the rows under a kernel come from: a table, or an index that is asked cell by cell, or (neither table nor
// keys, volume 1) every row from itself.
struct Neighbours {
    int32_t volume;
    const int32_t* table;    // (n, volume), or null
    Index index;
    const int32_t* keys;     // (n,) cell of every row
    const uint8_t* outside;  // (n,) rows without neighbours, or null
    int32_t runs;            // offsets as runs of adjacent cells
    const int64_t* run_step;
    const int32_t* run_length;
    const int32_t* run_offset;  // number of each offset, run by run

    // rows[k * BLOCK + i]: row + 1 under offset k of row start + i; 0 up to BLOCK.
    void look_up(int64_t start, int count, int32_t* rows) const {
        if (table) {
            const int32_t* from = table + start * volume;
            for (int32_t k = 0; k < volume; ++k) {
                int32_t* to = rows + k * BLOCK;
                for (int i = 0; i < count; ++i) to[i] = from[int64_t{i} * volume + k];
            }
        } else if (!keys) {
            for (int i = 0; i < count; ++i) rows[i] = static_cast<int32_t>(start + i + 1);
        } else {
            const int32_t* slot = run_offset;
            for (int32_t r = 0; r < runs; ++r, slot += run_length[r - 1]) look_up_run(r, slot, start, count, rows);
            if (outside)
                for (int i = 0; i < count; ++i)
                    if (outside[start + i])
                        for (int32_t k = 0; k < volume; ++k) rows[k * BLOCK + i] = 0;
        }
        if (count < BLOCK)
            for (int32_t k = 0; k < volume; ++k)
                std::fill(rows + k * BLOCK + count, rows + (k + 1) * BLOCK, 0);
    }

    // One run at a time, in loops without branches that compilers turn into vector code.
    void look_up_run(int32_t r, const int32_t* slot, int64_t start, int count, int32_t* rows) const {
        const int32_t length = run_length[r];
        const int64_t step = run_step[r];
        const uint64_t mask = (uint64_t{1} << length) - 1;
        const uint64_t* bits = index.bits;
        const uint32_t* rank = index.rank;
        const int32_t* key = keys + start;
        uint32_t found[BLOCK], place[BLOCK];
        for (int i = 0; i < count; ++i) {
            const int64_t cell = key[i] + step;
            const int64_t w = cell >> 6;
            const uint64_t shift = cell & 63;
            const uint64_t word = bits[w], next = bits[w + 1];
            found[i] = static_cast<uint32_t>(((word >> shift) | ((next << 1) << (63 - shift))) & mask);
            place[i] = rank[w] + static_cast<uint32_t>(__builtin_popcountll(word & ((uint64_t{1} << shift) - 1)));
        }
        for (int32_t j = 0; j < length; ++j) {
            int32_t* to = rows + slot[j] * BLOCK;
            for (int i = 0; i < count; ++i) {
                const uint32_t here = (found[i] >> j) & 1;
                place[i] += here;
                to[i] = static_cast<int32_t>(here ? place[i] : 0);
            }
            if (index.order)
                for (int i = 0; i < count; ++i) to[i] = index.order[to[i]];
        }
    }
};

}  // namespace
