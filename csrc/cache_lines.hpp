// Memory for vectors of numbers; included inside an unnamed namespace, as adder2d_kernels.hpp is, with <new> and <vector>.

// Begins with a cache line, so that no full vector lies across two: loads that do cost up to a fifth of the time.
template <class T>
struct CacheLineAllocator {
    using value_type = T;
    static constexpr std::align_val_t line{64};

    CacheLineAllocator() = default;
    template <class U>
    CacheLineAllocator(const CacheLineAllocator<U>&) {}
    T* allocate(std::size_t n) { return static_cast<T*>(::operator new(n * sizeof(T), line)); }
    void deallocate(T* p, std::size_t) { ::operator delete(p, line); }
    bool operator==(const CacheLineAllocator&) const { return true; }
    bool operator!=(const CacheLineAllocator&) const { return false; }
};

template <class T>
using CacheLines = std::vector<T, CacheLineAllocator<T>>;
