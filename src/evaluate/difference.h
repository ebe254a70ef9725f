#pragma once
// How far apart two arrays of the same shape are, row by row, in double.
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "core/data_type.h"

namespace tessera {

// The distance between neighbouring values of `type` (float32 or bfloat16) at the magnitude of `value`, which is finite.
double ulp(float value, DataType type);

class Difference {
 public:
  // `coarser`: the type whose ulps count.
  explicit Difference(DataType coarser) : coarser_(coarser) {}

  // The next row of `a` and of `b`, the reference. Places that hold the same infinity, or NaN on both sides, are left out; where only
  // one side is finite, or the infinities differ, the place is broken, and left out of everything but broken() and pcc().
  void add(std::span<const float> a, std::span<const float> b);

  // Pearson's correlation over all values. When a side is constant: 1 if the sides are equal, else 0. 0 if a place is broken.
  double pcc() const;
  double max_difference() const { return max_difference_; }  // the largest |a - b|
  int64_t max_row() const { return max_row_; }               // where it is
  double relative_error() const;                             // |a - b| / |b|, Euclidean norms; 0 when a equals b
  // Of |a - b|, in ulps of the coarser type at the larger of |a| and |b|.
  double mean_ulps() const { return count_ > 0 ? ulps_ / static_cast<double>(count_) : 0; }
  double max_ulps() const { return max_ulps_; }
  int64_t broken() const { return broken_; }

  struct Row {
    float below_one;  // 1 - PCC: near 1, a float has more digits of it
    float relative_error;
    double pcc() const { return 1.0 - static_cast<double>(below_one); }
  };
  const std::vector<Row>& rows() const { return rows_; }
  std::optional<int64_t> worst_row() const;  // of the lowest PCC; nullopt without rows
  std::optional<int64_t> first_row_below(double pcc) const;

 private:
  // Sums about the means, of which parts can be joined.
  struct Moments {
    double count = 0, mean_a = 0, mean_b = 0, aa = 0, bb = 0, ab = 0;
    void add(const Moments& other);
  };
  static double correlation(const Moments& moments, bool equal);

  DataType coarser_;
  Moments moments_;
  int64_t count_ = 0, broken_ = 0, max_row_ = 0;
  double squared_difference_ = 0, squared_reference_ = 0, max_difference_ = 0, ulps_ = 0, max_ulps_ = 0;
  std::vector<Row> rows_;
};

}  // namespace tessera
