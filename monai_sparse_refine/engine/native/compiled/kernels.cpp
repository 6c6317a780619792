// Kernels of the native engine for a CPU, compiled on first use and called through ctypes.
//
// One contract for all: every value is computed by one task in an order that does not depend on the number of
// threads, so results are the same bits for any number. Row numbers in tables are row + 1, and 0 where there
// is none. No Python, no PyTorch, no global state: pointers to contiguous arrays in, status out.

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstring>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace {

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif

constexpr int BLOCK = 128;               // rows whose neighbours are looked up at a time
constexpr int64_t WEIGHT_BYTES = 24576;  // of a kernel's offsets that are applied together: most of an L1 cache

// ---------------------------------------------------------------------------------------------- threads

// Calls work(task) for every task; which thread takes which task is of no consequence.
template <class Work>
void parallel(int64_t tasks, int threads, const Work& work) {
    threads = static_cast<int>(std::min<int64_t>(threads, tasks));
    std::atomic<int64_t> next{0};
    std::atomic<bool> failed{false};
    auto loop = [&] {
        try {
            for (int64_t task; (task = next.fetch_add(1)) < tasks;) work(task);
        } catch (...) {
            failed = true;
        }
    };
    std::vector<std::thread> pool;
    try {
        for (int i = 1; i < threads; ++i) pool.emplace_back(loop);
    } catch (const std::system_error&) {  // no more threads to be had: those there do all
    }
    loop();
    for (auto& thread : pool) thread.join();
    if (failed) throw std::bad_alloc();
}

template <class Work>
void parallel_rows(int64_t rows, int64_t grain, int threads, const Work& work) {
    parallel((rows + grain - 1) / grain, threads,
             [&](int64_t task) { work(task * grain, std::min(rows, (task + 1) * grain)); });
}

template <class Body>
int guarded(const Body& body) {
    try {
        body();
        return 0;
    } catch (...) {
        return 1;
    }
}

// ------------------------------------------------------------------------------------------------ index

// Set of cells as bits, with the number of set bits before each word: the place of a cell among the occupied
// ones. `order` turns it into a row; without it rows are in the order of their cells.
struct Index {
    const uint64_t* bits;
    const uint32_t* rank;
    const int32_t* order;

    int32_t row(uint32_t place) const { return order ? order[place] : static_cast<int32_t>(place + 1); }

    int32_t at(int64_t cell) const {
        const uint64_t word = bits[cell >> 6];
        const uint64_t bit = uint64_t{1} << (cell & 63);
        if (!(word & bit)) return 0;
        return row(rank[cell >> 6] + __builtin_popcountll(word & (bit - 1)));
    }
};

// Where the rows under a kernel come from: a table, or an index that is asked cell by cell.
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

    void look_up_run(int32_t r, const int32_t* slot, int64_t start, int count, int32_t* rows) const {
        const int32_t length = run_length[r];
        const uint64_t mask = (uint64_t{1} << length) - 1;
        for (int i = 0; i < count; ++i) {
            const int64_t cell = keys[start + i] + run_step[r];
            const int64_t w = cell >> 6;
            const int shift = static_cast<int>(cell & 63);
            const uint64_t word = bits(w);
            uint64_t found = word >> shift;
            if (shift + length > 64) found |= bits(w + 1) << (64 - shift);
            found &= mask;
            if (!found) {
                for (int32_t j = 0; j < length; ++j) rows[slot[j] * BLOCK + i] = 0;
                continue;
            }
            uint32_t place = index.rank[w] + __builtin_popcountll(word & ((uint64_t{1} << shift) - 1));
            for (int32_t j = 0; j < length; ++j) {
                const uint32_t here = (found >> j) & 1;
                rows[slot[j] * BLOCK + i] = here ? index.row(place) : 0;
                place += here;
            }
        }
    }

    uint64_t bits(int64_t word) const { return index.bits[word]; }
};

// -------------------------------------------------------------------------------------------- arithmetic

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

// Weights as tiles of columns: [tile][k][in][columns], the last tile padded with zeros.
template <class T>
std::vector<T> packed(const T* kernel, int32_t volume, int32_t in, int32_t out, bool transposed, bool mirrored,
                      int columns) {
    const int32_t tiles = (out + columns - 1) / columns;
    std::vector<T> result(static_cast<size_t>(tiles) * volume * in * columns, T(0));
    T* to = result.data();
    for (int32_t tile = 0; tile < tiles; ++tile) {
        const int32_t first = tile * columns, width = std::min<int32_t>(columns, out - first);
        for (int32_t k = 0; k < volume; ++k) {
            const T* from = kernel + int64_t{mirrored ? volume - 1 - k : k} * in * out;
            for (int32_t c = 0; c < in; ++c, to += columns)
                for (int32_t o = 0; o < width; ++o)
                    to[o] = transposed ? from[int64_t{first + o} * in + c] : from[int64_t{c} * out + first + o];
        }
    }
    return result;
}

template <class T>
struct Product {
    const T* source;  // (n, in)
    T* result;        // (m, out)
    const T* bias;    // (out,) or null
    int32_t volume, in, out;
    bool rectified;
};

// A block of rows times one tile of columns.
template <class T, class S>
void multiply_tile(const Product<T>& p, const T* weight, const int32_t* rows, const T* nothing, int64_t start,
                   int count, int32_t first) {
    using Vector = typename S::Vector;
    constexpr int R = S::rows, V = S::vectors, C = S::columns, LANES = C / V;
    const int32_t width = std::min<int32_t>(C, p.out - first);
    const int32_t step = std::max<int64_t>(1, WEIGHT_BYTES / (int64_t{p.in} * C * sizeof(T)));
    alignas(64) T partial[BLOCK][C];
    for (int32_t low = 0; low < p.volume; low += step) {
        const int32_t high = std::min(p.volume, low + step);
        for (int i = 0; i < count; i += R) {
            Vector sum[R][V];
            if (low == 0) {
                for (int r = 0; r < R; ++r)
                    for (int v = 0; v < V; ++v) sum[r][v] = Vector{};
            } else {
                for (int r = 0; r < R; ++r)
                    for (int v = 0; v < V; ++v)
                        sum[r][v] = *reinterpret_cast<const Vector*>(&partial[i + r][v * LANES]);
            }
            for (int32_t k = low; k < high; ++k) {
                const int32_t* row = rows + k * BLOCK + i;
                int32_t any = 0;
                for (int r = 0; r < R; ++r) any |= row[r];
                if (!any) continue;
                const T* from[R];
                for (int r = 0; r < R; ++r) from[r] = row[r] ? p.source + int64_t{row[r] - 1} * p.in : nothing;
                const T* w = weight + int64_t{k} * p.in * C;
                for (int32_t c = 0; c < p.in; ++c, w += C) {
                    Vector factor[V];
                    for (int v = 0; v < V; ++v) factor[v] = *reinterpret_cast<const Vector*>(w + v * LANES);
                    for (int r = 0; r < R; ++r)
                        for (int v = 0; v < V; ++v) sum[r][v] += from[r][c] * factor[v];
                }
            }
            if (high < p.volume) {
                for (int r = 0; r < R; ++r)
                    for (int v = 0; v < V; ++v)
                        *reinterpret_cast<Vector*>(&partial[i + r][v * LANES]) = sum[r][v];
                continue;
            }
            for (int r = 0; r < R && i + r < count; ++r) {
                T* to = p.result + (start + i + r) * p.out + first;
                if (!p.bias && !p.rectified && width == C) {
                    for (int v = 0; v < V; ++v) *reinterpret_cast<Vector*>(to + v * LANES) = sum[r][v];
                    continue;
                }
                T values[C];
                std::memcpy(values, sum[r], sizeof values);
                for (int32_t o = 0; o < width; ++o) {
                    T value = values[o];
                    if (p.bias) value += p.bias[first + o];
                    to[o] = p.rectified && value < 0 ? T(0) : value;
                }
            }
        }
    }
}

template <class T, class S>
void multiply(const Product<T>& p, const T* kernel, bool transposed, bool mirrored, const Neighbours& neighbours,
              int64_t total, int threads) {
    const std::vector<T> weight = packed(kernel, p.volume, p.in, p.out, transposed, mirrored, S::columns);
    const std::vector<T> nothing(p.in, T(0));
    const int64_t tile = int64_t{p.volume} * p.in * S::columns;
    parallel_rows(total, BLOCK * 8, threads, [&](int64_t begin, int64_t end) {
        std::vector<int32_t> rows(static_cast<size_t>(p.volume) * BLOCK);
        for (int64_t start = begin; start < end; start += BLOCK) {
            const int count = static_cast<int>(std::min<int64_t>(BLOCK, end - start));
            neighbours.look_up(start, count, rows.data());
            const T* w = weight.data();
            for (int32_t first = 0; first < p.out; first += S::columns, w += tile)
                multiply_tile<T, S>(p, w, rows.data(), nothing.data(), start, count, first);
        }
    });
}

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
    else
        function(Shape<T, FULL, 4>());
}

template <class T>
int convolve(const T* source, const T* kernel, const T* bias, T* result, int32_t in, int32_t out, int32_t transposed,
             int32_t mirrored, int32_t rectified, const Neighbours* neighbours, int64_t total, int32_t threads) {
    return guarded([&] {
        const Product<T> p{source, result, bias, neighbours->volume, in, out, rectified != 0};
        with_shape<T>(out, [&](auto shape) {
            multiply<T, decltype(shape)>(p, kernel, transposed != 0, mirrored != 0, *neighbours, total, threads);
        });
    });
}

// ------------------------------------------------------------------------------------- kernel gradient

// total[c][o] += sum over pairs of left[row][c] * right[row][o], one tile of columns and R rows of the kernel.
template <class T, class S, int R>
void add_outer(const T* const* left, const T* const* right, int pairs, int32_t c, int32_t first, int32_t width,
               T* total, int32_t out) {
    using Vector = typename S::Vector;
    constexpr int V = S::vectors, C = S::columns, LANES = C / V;
    Vector sum[R][V];
    for (int r = 0; r < R; ++r)
        for (int v = 0; v < V; ++v) sum[r][v] = Vector{};
    if (width == C) {
        for (int i = 0; i < pairs; ++i) {
            const T* a = left[i] + c;
            const T* b = right[i] + first;
            for (int v = 0; v < V; ++v) {
                const Vector factor = *reinterpret_cast<const Vector*>(b + v * LANES);
                for (int r = 0; r < R; ++r) sum[r][v] += a[r] * factor;
            }
        }
    } else {
        T padded[C] = {};
        for (int i = 0; i < pairs; ++i) {
            const T* a = left[i] + c;
            std::memcpy(padded, right[i] + first, width * sizeof(T));
            for (int v = 0; v < V; ++v) {
                const Vector factor = *reinterpret_cast<const Vector*>(padded + v * LANES);
                for (int r = 0; r < R; ++r) sum[r][v] += a[r] * factor;
            }
        }
    }
    for (int r = 0; r < R; ++r) {
        T values[C];
        std::memcpy(values, sum[r], sizeof values);
        for (int32_t o = 0; o < width; ++o) total[int64_t{c + r} * out + first + o] += values[o];
    }
}

template <class T, class S>
void add_outer_all(const T* const* left, const T* const* right, int pairs, int32_t in, int32_t out, T* total) {
    for (int32_t first = 0; first < out; first += S::columns) {
        const int32_t width = std::min<int32_t>(S::columns, out - first);
        int32_t c = 0;
        for (; c + 8 <= in; c += 8) add_outer<T, S, 8>(left, right, pairs, c, first, width, total, out);
        for (; c + 4 <= in; c += 4) add_outer<T, S, 4>(left, right, pairs, c, first, width, total, out);
        for (; c < in; ++c) add_outer<T, S, 1>(left, right, pairs, c, first, width, total, out);
    }
}

// result[k][c][o] = sum over rows i of gathered[neighbour(i, k)][c] * straight[i][o].
template <class T, class S>
void outer(const T* gathered, const T* straight, T* result, int32_t in, int32_t out, const Neighbours& neighbours,
           int64_t total, int64_t segment, int threads) {
    const int32_t volume = neighbours.volume;
    const int64_t values = int64_t{volume} * in * out;
    const int64_t segments = std::max<int64_t>(1, (total + segment - 1) / segment);
    std::vector<T> partial(static_cast<size_t>(segments * values), T(0));
    // Few rows and a large kernel: the offsets are what there is to share out.
    const int64_t groups = segments >= 16 ? 1 : std::min<int64_t>(volume, 9);
    parallel(segments * groups, threads, [&](int64_t task) {
        const int64_t part = task / groups, group = task % groups;
        const int32_t low = static_cast<int32_t>(volume * group / groups);
        const int32_t high = static_cast<int32_t>(volume * (group + 1) / groups);
        std::vector<int32_t> rows(static_cast<size_t>(volume) * BLOCK);
        const T* left[BLOCK];
        const T* right[BLOCK];
        const int64_t end = std::min(total, (part + 1) * segment);
        for (int64_t start = part * segment; start < end; start += BLOCK) {
            const int count = static_cast<int>(std::min<int64_t>(BLOCK, end - start));
            neighbours.look_up(start, count, rows.data());
            for (int32_t k = low; k < high; ++k) {
                int pairs = 0;
                for (int i = 0; i < count; ++i) {
                    const int32_t row = rows[k * BLOCK + i];
                    left[pairs] = gathered + int64_t{row - 1} * in;
                    right[pairs] = straight + (start + i) * out;
                    pairs += row != 0;
                }
                add_outer_all<T, S>(left, right, pairs, in, out,
                                    partial.data() + part * values + int64_t{k} * in * out);
            }
        }
    });
    parallel_rows(values, 4096, threads, [&](int64_t begin, int64_t end) {
        for (int64_t v = begin; v < end; ++v) {
            double sum = 0;
            for (int64_t part = 0; part < segments; ++part) sum += partial[part * values + v];
            result[v] = static_cast<T>(sum);
        }
    });
}

template <class T>
int kernel_gradient(const T* gathered, const T* straight, T* result, int32_t in, int32_t out,
                    const Neighbours* neighbours, int64_t total, int32_t threads) {
    return guarded([&] {
        // Partial sums of all segments together: at most 4 M values.
        const int64_t values = int64_t{neighbours->volume} * in * out;
        const int64_t most = std::max<int64_t>(1, (int64_t{1} << 22) / std::max<int64_t>(1, values));
        const int64_t segment = std::max<int64_t>(4096, ((total + most - 1) / most + BLOCK - 1) / BLOCK * BLOCK);
        with_shape<T>(out, [&](auto shape) {
            outer<T, decltype(shape)>(gathered, straight, result, in, out, *neighbours, total, segment, threads);
        });
    });
}

// ---------------------------------------------------------------------------------- one source per row

// result[i] = source[row] @ kernel[k] where positions[i] - 1 = row * volume + k; 0 where positions[i] is 0.
template <class T, class S>
void multiply_single(const T* source, const T* weight, const int32_t* positions, T* result, int32_t volume, int32_t in,
                     int32_t out, int64_t begin, int64_t end) {
    using Vector = typename S::Vector;
    constexpr int V = S::vectors, C = S::columns, LANES = C / V;
    for (int32_t first = 0; first < out; first += C, weight += int64_t{volume} * in * C) {
        const int32_t width = std::min<int32_t>(C, out - first);
        for (int64_t i = begin; i < end; ++i) {
            Vector sum[V];
            for (int v = 0; v < V; ++v) sum[v] = Vector{};
            if (positions[i]) {
                const int32_t row = (positions[i] - 1) / volume, k = (positions[i] - 1) % volume;
                const T* from = source + int64_t{row} * in;
                const T* w = weight + int64_t{k} * in * C;
                for (int32_t c = 0; c < in; ++c, w += C)
                    for (int v = 0; v < V; ++v) sum[v] += from[c] * *reinterpret_cast<const Vector*>(w + v * LANES);
            }
            T* to = result + i * out + first;
            if (width == C) {
                for (int v = 0; v < V; ++v) *reinterpret_cast<Vector*>(to + v * LANES) = sum[v];
            } else {
                std::memcpy(to, sum, width * sizeof(T));
            }
        }
    }
}

template <class T>
int convolve_single(const T* source, const T* kernel, const int32_t* positions, T* result, int32_t volume, int32_t in,
                    int32_t out, int32_t transposed, int64_t total, int32_t threads) {
    return guarded([&] {
        with_shape<T>(out, [&](auto shape) {
            using S = decltype(shape);
            const std::vector<T> weight = packed(kernel, volume, in, out, transposed != 0, false, S::columns);
            parallel_rows(total, 4096, threads, [&](int64_t begin, int64_t end) {
                multiply_single<T, S>(source, weight.data(), positions, result, volume, in, out, begin, end);
            });
        });
    });
}

}  // namespace

// ------------------------------------------------------------------------------------------- interface

extern "C" {

// Fills bits (words + 1, zeroed), rank (words + 1) and order (n). Returns 1 if rows are in the order of their
// cells (order is then not needed), 0 if not, -1 if two rows share a cell.
int32_t index_build(const int32_t* keys, int64_t n, int64_t words, uint64_t* bits, uint32_t* rank, int32_t* order) {
    bool ascending = true;
    int64_t previous = -1;
    for (int64_t i = 0; i < n; ++i) {
        ascending = ascending && keys[i] > previous;
        previous = keys[i];
        bits[keys[i] >> 6] |= uint64_t{1} << (keys[i] & 63);
    }
    uint32_t count = 0;
    for (int64_t w = 0; w <= words; ++w) {
        rank[w] = count;
        count += __builtin_popcountll(bits[w]);
    }
    if (ascending) return 1;
    for (int64_t i = 0; i < n; ++i) {
        const int64_t w = keys[i] >> 6;
        const uint64_t below = bits[w] & ((uint64_t{1} << (keys[i] & 63)) - 1);
        order[rank[w] + __builtin_popcountll(below)] = static_cast<int32_t>(i + 1);
    }
    return count == n ? 0 : -1;
}

int32_t index_at(const uint64_t* bits, const uint32_t* rank, const int32_t* order, const int32_t* cells, int64_t n,
                 int32_t* rows, int32_t threads) {
    const Index index{bits, rank, order};
    return guarded([&] {
        parallel_rows(n, 1 << 15, threads, [&](int64_t begin, int64_t end) {
            for (int64_t i = begin; i < end; ++i) rows[i] = index.at(cells[i]);
        });
    });
}

// (n, volume) row + 1 of every neighbour.
int32_t neighbour_table(const Neighbours* neighbours, int64_t n, int32_t* table, int32_t threads) {
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
int32_t neighbour_positions(const Neighbours* neighbours, int64_t n, int32_t* positions, int32_t threads) {
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
    int32_t convolve_##NAME(const T* source, const T* kernel, const T* bias, T* result, int32_t in, int32_t out,     \
                            int32_t transposed, int32_t mirrored, int32_t rectified, const Neighbours* neighbours,  \
                            int64_t total, int32_t threads) {                                                        \
        return convolve<T>(source, kernel, bias, result, in, out, transposed, mirrored, rectified, neighbours,       \
                           total, threads);                                                                          \
    }                                                                                                                \
    int32_t kernel_gradient_##NAME(const T* gathered, const T* straight, T* result, int32_t in, int32_t out,         \
                                   const Neighbours* neighbours, int64_t total, int32_t threads) {                   \
        return kernel_gradient<T>(gathered, straight, result, in, out, neighbours, total, threads);                  \
    }                                                                                                                \
    int32_t convolve_single_##NAME(const T* source, const T* kernel, const int32_t* positions, T* result,            \
                                   int32_t volume, int32_t in, int32_t out, int32_t transposed, int64_t total,       \
                                   int32_t threads) {                                                                \
        return convolve_single<T>(source, kernel, positions, result, volume, in, out, transposed, total, threads);   \
    }

FOR_TYPE(float, float32)
FOR_TYPE(double, float64)

}  // extern "C"
