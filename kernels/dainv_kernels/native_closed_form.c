/* The closed form of Eq. 3 on a CPU: one read of the features forward, one read and one write backward.
 *
 * A thread takes a tile of columns and walks over its rows group by group. Differences from a group's first member are
 * added up in the accumulator's type, MEMBERS at most at a time; everything beyond that is float64. What a tile leaves
 * is added up in the order of the tiles, so the same input gives the same bits for any number of threads.
 * kernels/README.md derives it; native_build.py compiles it for one type of features at a time: FLOAT32, FLOAT64 or
 * BFLOAT16.
 */
#include <float.h>
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define INLINE static inline __attribute__((always_inline))

/* How features are stored, and what sums of up to MEMBERS of them are kept in. */
#if defined(FLOAT64)
typedef double feature;
typedef double accumulator;
#define SMALLEST DBL_MIN
#elif defined(FLOAT32)
typedef float feature;
typedef float accumulator;
#define SMALLEST FLT_MIN
#elif defined(BFLOAT16)
typedef uint16_t feature;
typedef float accumulator;
#define SMALLEST FLT_MIN
#endif

#if defined(BFLOAT16) /* the upper half of a float32 */
INLINE accumulator widen(feature x) {
    const uint32_t bits = (uint32_t)x << 16;
    accumulator value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

INLINE feature narrow(accumulator value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    const uint32_t nearest_even = bits + 0x7fff + (bits >> 16 & 1);
    return (value != value ? bits | 0x400000 : nearest_even) >> 16;
}
#else
INLINE accumulator widen(feature x) { return x; }
INLINE feature narrow(accumulator value) { return (feature)value; }
#endif

enum {
    TILE = 4096 / sizeof(accumulator), /* columns at most: what is kept of a tile stays in the caches next to a core */
    MEMBERS = 16
};

/* A row's part of a tile is a page of memory or less, and the hardware's own prefetching starts anew with each page. */
INLINE void prefetch(const feature *row) {
    for (int line = 0; line < 4; line++) __builtin_prefetch((const char *)row + 64 * line);
}

/* Rows order[bounds[k]] ... order[bounds[k + 1] - 1] are group k. */
struct groups {
    const int64_t *order, *bounds;
    const double *weights;
    int64_t number;
};

/* Whether the groups end where the batch does and lie in it: what follows reads and writes where these tables say. */
static bool divide(const struct groups *groups, int64_t n_samples) {
    const int64_t number = groups->number, *bounds = groups->bounds;
    if (number < 1 || number > n_samples || bounds[0] != 0 || bounds[number] != n_samples) return false;
    for (int64_t k = 0; k < number; k++)
        if (bounds[k + 1] <= bounds[k]) return false;
    for (int64_t i = 0; i < n_samples; i++)
        if (groups->order[i] < 0 || groups->order[i] >= n_samples) return false;
    return true;
}

/* ReLU of a feature plus a bias, as it is stored. NaN stays NaN. */
INLINE feature activate(feature x, accumulator bias) {
    const accumulator value = widen(x) + bias;
    return narrow(value < 0 ? 0 : value);
}

/* Read a group's rows of a tile once: its first member, and the sum of the differences from it; and, if asked for, that
 * of their squares. With relu, the activation y is written on the way (it may lie over x), and the sums are of that. */
INLINE void read_group(const feature *x, int64_t x_stride, const int64_t *rows, int64_t size, int width,
                       accumulator *restrict first, double *restrict sum, double *restrict squares,
                       const accumulator *restrict bias, feature *y, int64_t y_stride, const bool relu,
                       const bool squared) {
    accumulator s1[TILE], s2[TILE];
    for (int64_t j = 0; j < size; j++) {
        const feature *from = x + rows[j] * x_stride;
        feature *to = relu ? y + rows[j] * y_stride : 0;
        if (j + 1 < size) prefetch(x + rows[j + 1] * x_stride);
        if (j % MEMBERS == 0) {
#pragma omp simd
            for (int c = 0; c < width; c++) s1[c] = s2[c] = 0;
        }
        if (j == 0) {
#pragma omp simd
            for (int c = 0; c < width; c++) {
                feature value = from[c];
                if (relu) to[c] = value = activate(value, bias[c]);
                first[c] = widen(value);
                sum[c] = 0;
                if (squared) squares[c] = 0;
            }
        } else {
#pragma omp simd
            for (int c = 0; c < width; c++) {
                feature value = from[c];
                if (relu) to[c] = value = activate(value, bias[c]);
                const accumulator difference = widen(value) - first[c];
                s1[c] += difference;
                if (squared) s2[c] += difference * difference;
            }
        }
        if (j % MEMBERS == MEMBERS - 1 || j == size - 1) {
#pragma omp simd
            for (int c = 0; c < width; c++) {
                sum[c] += s1[c];
                if (squared) squares[c] += s2[c];
            }
        }
    }
}

/* Both sums of squares of a tile, and the mean of its columns as an offset from the batch's first row. */
INLINE void forward_tile(const feature *x, int64_t x_stride, const struct groups *groups, int width, feature *y,
                         int64_t y_stride, const accumulator *bias, accumulator *mean_offset, double *sums,
                         const bool relu) {
    accumulator origin[TILE], first[TILE];
    double sum[TILE], squares[TILE], mean[TILE], around_mean[TILE], weighted[TILE];
    for (int c = 0; c < width; c++) {
        origin[c] = widen(relu ? activate(x[c], bias[c]) : x[c]);
        mean[c] = around_mean[c] = weighted[c] = 0;
    }
    double before = 0; /* samples seen so far */
    for (int64_t k = 0; k < groups->number; k++) {
        const int64_t start = groups->bounds[k], size = groups->bounds[k + 1] - start;
        const double share = size / (before + size);
        read_group(x, x_stride, groups->order + start, size, width, first, sum, squares, bias, y, y_stride, relu, true);
#pragma omp simd
        for (int c = 0; c < width; c++) {
            const double from_first = sum[c] / size, difference = squares[c] - sum[c] * from_first;
            const double within = difference < 0 ? 0 : difference; /* where squares are too small for their type */
            weighted[c] += groups->weights[k] * within;
            /* Chan's update: only positive terms are added, so that not even an outlier as origin costs digits. */
            const double delta = ((double)first[c] - origin[c]) + from_first - mean[c];
            mean[c] += share * delta;
            around_mean[c] += within + before * share * delta * delta;
        }
        before += size;
    }
    double all_weighted = 0, all_around_mean = 0;
#pragma omp simd reduction(+ : all_weighted, all_around_mean)
    for (int c = 0; c < width; c++) {
        all_weighted += weighted[c];
        all_around_mean += around_mean[c];
        mean_offset[c] = mean[c];
    }
    sums[0] = all_weighted;
    sums[1] = all_around_mean;
}

/* Loss, its two sums of squares and the batch mean; false if the groups are none. With an activation, its sums are
 * taken and it is written: the ReLU of the features plus, if there is one, the bias of channel d / inner % n_channels
 * of each column d. */
bool forward(const feature *x, int64_t x_stride, int64_t n_samples, int64_t n_features, const int64_t *order,
             const int64_t *bounds, const int64_t *n_groups, const double *weights, int tile, int threads,
             feature *activation, int64_t activation_stride, const accumulator *bias, int64_t inner,
             int64_t n_channels, accumulator *mean_offset, double *partial, double *sums, accumulator *loss) {
    const struct groups groups = {order, bounds, weights, *n_groups};
    if (!divide(&groups, n_samples)) return false;
    const int64_t n_tiles = (n_features + tile - 1) / tile;
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t t = 0; t < n_tiles; t++) {
        const int64_t column = t * tile;
        const int width = n_features - column < tile ? n_features - column : tile;
        accumulator biases[TILE];
        if (activation) {
            for (int c = 0; c < width; c++) biases[c] = bias ? bias[(column + c) / inner % n_channels] : 0;
            forward_tile(x + column, x_stride, &groups, width, activation + column, activation_stride, biases,
                         mean_offset + column, partial + 2 * t, true);
        } else {
            forward_tile(x + column, x_stride, &groups, width, 0, 0, 0, mean_offset + column, partial + 2 * t, false);
        }
    }
    double weighted = 0, total = 0;
    for (int64_t t = 0; t < n_tiles; t++) {
        weighted += partial[2 * t];
        total += partial[2 * t + 1];
    }
    const bool constant = total < SMALLEST; /* false for NaN */
    sums[0] = constant ? 0 : weighted;
    sums[1] = constant ? 0 : isfinite(total) ? total : NAN;
    *loss = constant ? 0 : weighted / sums[1];
    return true;
}

/* Gradient slope (f - f0) + a sum_i (f_i - f0) + b (f0 - m) of a tile, f0 and i being of the group of f. */
INLINE void backward_tile(const feature *x, int64_t x_stride, const struct groups *groups, int width, double scale,
                          double loss, const accumulator *mean_offset, const feature *upstream,
                          int64_t upstream_stride, feature *out, int64_t out_stride, const bool added,
                          const bool relu) {
    accumulator origin[TILE], first[TILE], constant[TILE];
    double sum[TILE];
    for (int c = 0; c < width; c++) origin[c] = widen(x[c]);
    for (int64_t k = 0; k < groups->number; k++) {
        const int64_t start = groups->bounds[k], size = groups->bounds[k + 1] - start;
        const int64_t *rows = groups->order + start;
        const double of_sum = -scale * groups->weights[k] / size, of_batch_mean = -scale * loss;
        const accumulator slope = scale * (groups->weights[k] - loss);
        read_group(x, x_stride, rows, size, width, first, sum, 0, 0, 0, 0, false, false);
#pragma omp simd
        for (int c = 0; c < width; c++) {
            const double from_batch_mean = (double)first[c] - origin[c] - mean_offset[c];
            constant[c] = of_sum * sum[c] + of_batch_mean * from_batch_mean;
        }
        for (int64_t j = 0; j < size; j++) { /* these rows are in the cache by now */
            const feature *from = x + rows[j] * x_stride;
            const feature *add = added ? upstream + rows[j] * upstream_stride : 0;
            feature *to = out + rows[j] * out_stride;
            if (added && j + 1 < size) prefetch(upstream + rows[j + 1] * upstream_stride);
#pragma omp simd
            for (int c = 0; c < width; c++) {
                const accumulator value = widen(from[c]);
                accumulator gradient = slope * (value - first[c]) + constant[c];
                if (added) gradient += widen(add[c]);
                if (relu) gradient = value <= 0 ? 0 : gradient;
                to[c] = narrow(gradient);
            }
        }
    }
}

/* Gradient of the features; false if the groups are none. A gradient from upstream, if there is one, is added, and the
 * result may lie over it; with relu, the features are the output of a ReLU, through which the gradient is taken. */
bool backward(const feature *x, int64_t x_stride, int64_t n_samples, int64_t n_features, const int64_t *order,
              const int64_t *bounds, const int64_t *n_groups, const double *weights, int tile, int threads,
              const accumulator *grad_loss, const double *sums, const accumulator *mean_offset,
              const feature *upstream, int64_t upstream_stride, feature *out, int64_t out_stride, int relu) {
    const struct groups groups = {order, bounds, weights, *n_groups};
    if (!divide(&groups, n_samples)) return false;
    const int64_t n_tiles = (n_features + tile - 1) / tile;
    const double scale = sums[1] == 0 ? 0 : 2 * (double)*grad_loss / sums[1];
    const double loss = sums[1] == 0 ? 0 : sums[0] / sums[1];
#pragma omp parallel for schedule(static) num_threads(threads) if (threads > 1)
    for (int64_t t = 0; t < n_tiles; t++) {
        const int64_t column = t * tile;
        const int width = n_features - column < tile ? n_features - column : tile;
#define BACKWARD_TILE(added, relu)                                                                                 \
    backward_tile(x + column, x_stride, &groups, width, scale, loss, mean_offset + column,                         \
                  upstream ? upstream + column : 0, upstream_stride, out + column, out_stride, added, relu)
        if (upstream && relu)
            BACKWARD_TILE(true, true);
        else if (upstream)
            BACKWARD_TILE(true, false);
        else if (relu)
            BACKWARD_TILE(false, true);
        else
            BACKWARD_TILE(false, false);
    }
    return true;
}
