#include "evaluate/difference.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace tessera {
namespace {

constexpr int kExponents = 256;

// 2^(exponent of a float32 - the type's fraction bits), by the exponent's 8 bits; subnormals share that of the smallest normal.
std::array<double, kExponents> ulps_by_exponent(int fraction_bits) {
  std::array<double, kExponents> all{};
  for (int exponent = 0; exponent < kExponents; ++exponent)
    all[static_cast<size_t>(exponent)] = std::ldexp(1.0, std::max(exponent, 1) - 127 - fraction_bits);
  return all;
}

double relative(double squared_difference, double squared_reference) {
  return squared_difference == 0 ? 0 : std::sqrt(squared_difference / squared_reference);  // infinite when the reference is all zeros
}

}  // namespace

double ulp(float value, DataType type) {
  static const std::array<double, kExponents> float32 = ulps_by_exponent(23), bfloat16 = ulps_by_exponent(7);
  const uint32_t exponent = (std::bit_cast<uint32_t>(value) >> 23) & 0xFF;
  return (type == DataType::float32 ? float32 : bfloat16)[exponent];
}

void Difference::Moments::add(const Moments& other) {
  if (other.count == 0) return;
  const double total = count + other.count, part = other.count / total, weight = count * part;
  const double to_a = other.mean_a - mean_a, to_b = other.mean_b - mean_b;
  aa += other.aa + to_a * to_a * weight;
  bb += other.bb + to_b * to_b * weight;
  ab += other.ab + to_a * to_b * weight;
  mean_a += to_a * part;
  mean_b += to_b * part;
  count = total;
}

double Difference::correlation(const Moments& moments, bool equal) {
  if (equal) return 1;
  const double spread = std::sqrt(moments.aa) * std::sqrt(moments.bb);
  return spread == 0 ? 0 : std::clamp(moments.ab / spread, -1.0, 1.0);
}

void Difference::add(std::span<const float> a, std::span<const float> b) {
  Moments row;
  double sum_a = 0, sum_b = 0, difference = 0, reference = 0;
  const int64_t broken_before = broken_;
  const auto counts = [&](size_t i) { return std::isfinite(a[i]) && std::isfinite(b[i]); };
  for (size_t i = 0; i < a.size(); ++i) {
    if (!counts(i)) {
      broken_ += !(a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i])));
      continue;
    }
    row.count += 1;
    sum_a += a[i];
    sum_b += b[i];
    const double apart = std::abs(static_cast<double>(a[i]) - b[i]);
    difference += apart * apart;
    reference += static_cast<double>(b[i]) * b[i];
    if (apart > max_difference_) {
      max_difference_ = apart;
      max_row_ = static_cast<int64_t>(rows_.size());
    }
    const double in_ulps = apart / ulp(std::max(std::abs(a[i]), std::abs(b[i])), coarser_);
    ulps_ += in_ulps;
    max_ulps_ = std::max(max_ulps_, in_ulps);
  }
  if (row.count > 0) {
    row.mean_a = sum_a / row.count;
    row.mean_b = sum_b / row.count;
  }
  for (size_t i = 0; i < a.size(); ++i) {
    if (!counts(i)) continue;
    const double from_a = a[i] - row.mean_a, from_b = b[i] - row.mean_b;
    row.aa += from_a * from_a;
    row.bb += from_b * from_b;
    row.ab += from_a * from_b;
  }
  count_ += static_cast<int64_t>(row.count);
  squared_difference_ += difference;
  squared_reference_ += reference;
  moments_.add(row);
  const double pcc = broken_ > broken_before ? 0 : correlation(row, difference == 0);
  rows_.push_back({static_cast<float>(1 - pcc), static_cast<float>(relative(difference, reference))});
}

double Difference::pcc() const { return broken_ > 0 ? 0 : correlation(moments_, squared_difference_ == 0); }

double Difference::relative_error() const { return relative(squared_difference_, squared_reference_); }

std::optional<int64_t> Difference::worst_row() const {
  if (rows_.empty()) return {};
  return std::min_element(rows_.begin(), rows_.end(), [](const Row& x, const Row& y) { return x.below_one > y.below_one; }) - rows_.begin();
}

std::optional<int64_t> Difference::first_row_below(double pcc) const {
  const auto found = std::find_if(rows_.begin(), rows_.end(), [&](const Row& row) { return row.pcc() < pcc; });
  if (found == rows_.end()) return {};
  return found - rows_.begin();
}

}  // namespace tessera
