// Tasks shared out between threads that are started for a call and end with it: nothing survives a fork.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

namespace {

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

}  // namespace
