#include "evaluate/comparison.h"

#include <algorithm>
#include <map>

#include "core/error.h"
#include "evaluate/observations.h"

namespace tessera {
namespace {

struct OpRows {
  int64_t width;
  DataType type;
};

// The reference as it follows the other side through the prompt.
class Reference {
 public:
  virtual ~Reference() = default;
  virtual void follow(int64_t done) = 0;  // the rows of the tokens before `done`, from where it was, are there now
  virtual std::optional<OpRows> find(const std::string& name) = 0;
  virtual void read(const std::string& name, std::span<float> out) = 0;
  virtual std::vector<std::string> names() const = 0;
};

// A model on its way through the prompt.
class Forward {
 public:
  Forward(Generator& generator, const std::vector<TokenId>& tokens)
      : generator_(generator), sequence_(generator.cache().create()), request_{sequence_.get(), static_cast<int64_t>(tokens.size())} {
    sequence_->tokens = tokens;
    generator_.begin(std::span(&request_, 1));
  }

  int64_t step() {
    const Observing observing(generator_.device(), observations_);
    static_cast<void>(generator_.step(std::span(&request_, 1)));
    if (request_.error) std::rethrow_exception(request_.error);
    return sequence_->length();
  }

  const std::vector<Observation>& seen() const { return observations_.all(); }
  // The last rows of x: a piece may begin with tokens that are computed again.
  void read(const Tensor& x, std::span<float> out) {
    all_.resize(static_cast<size_t>(volume(x.shape())));
    generator_.device().read(x, all_);
    std::copy(all_.end() - static_cast<std::ptrdiff_t>(out.size()), all_.end(), out.begin());
  }

 private:
  std::vector<float> all_;
  Generator& generator_;
  Observations observations_;
  std::unique_ptr<Sequence> sequence_;
  Generator::Request request_;
};

int64_t row_width(const Tensor& x) { return x.shape()[1] * x.shape()[3]; }

class ForwardReference final : public Reference {
 public:
  ForwardReference(Generator& generator, const std::vector<TokenId>& tokens) : forward_(generator, tokens) {}

  void follow(int64_t done) override {
    by_name_.clear();  // frees the last piece's
    const int64_t ours = forward_.step();
    check(ours == done, "compare: one side took the prompt to token ", done, ", the other to ", ours,
          "; give both a batch size that their devices take");
    for (const Observation& seen : forward_.seen()) by_name_[seen.name] = seen.output;
  }

  std::optional<OpRows> find(const std::string& name) override {
    const auto found = by_name_.find(name);
    if (found == by_name_.end()) return {};
    return OpRows{row_width(found->second), found->second.dtype()};
  }

  void read(const std::string& name, std::span<float> out) override { forward_.read(by_name_.at(name), out); }

  std::vector<std::string> names() const override {
    std::vector<std::string> all;
    for (const Observation& seen : forward_.seen()) all.push_back(seen.name);
    return all;
  }

 private:
  Forward forward_;
  std::map<std::string, Tensor> by_name_;
};

class RecordedReference final : public Reference {
 public:
  explicit RecordedReference(const RecordedRows& rows) : rows_(rows) {}

  void follow(int64_t done) override {
    first_ = done_;
    done_ = done;
  }

  std::optional<OpRows> find(const std::string& name) override {
    const auto found = rows_.ops().find(name);
    if (found == rows_.ops().end()) return {};
    return OpRows{found->second.width, found->second.type};
  }

  void read(const std::string& name, std::span<float> out) override { rows_.read(rows_.ops().at(name), first_, out); }

  std::vector<std::string> names() const override {
    std::vector<std::string> all;
    for (const auto& [name, rows] : rows_.ops()) all.push_back(name);
    return all;
  }

 private:
  const RecordedRows& rows_;
  int64_t first_ = 0, done_ = 0;
};

DataType coarser(DataType a, DataType b) { return a == DataType::bfloat16 ? a : b; }

// The ops of both sides, and what only one of them has; no rows yet.
Comparison matched(const std::vector<Observation>& seen, Reference& reference) {
  Comparison comparison;
  std::vector<std::string> left = reference.names();
  for (const Observation& a : seen) {
    const std::optional<OpRows> b = reference.find(a.name);
    if (!b) {
      comparison.only_a.push_back(a.name);
      continue;
    }
    const int64_t width = row_width(a.output);
    check(width == b->width, "compare: ", a.name, " has ", width, " values a token, and ", b->width,
          " on the other side; these are not the same model");
    std::erase(left, a.name);
    comparison.ops.push_back(
        {a.name, std::string(a.op), a.layer, width, a.output.dtype(), b->type, Difference(coarser(a.output.dtype(), b->type))});
  }
  comparison.only_b = std::move(left);
  check(!comparison.ops.empty(), "compare: the sides have no op in common; the other has ",
        comparison.only_b.empty() ? "none" : comparison.only_b.front(), ", ...");
  return comparison;
}

// Of the last tokens, so many.
void add_rows(Comparison& comparison, Forward& forward, Reference& reference, size_t rows) {
  std::vector<float> a, b;
  auto op = comparison.ops.begin();
  for (const Observation& seen : forward.seen()) {
    if (op == comparison.ops.end() || op->name != seen.name) continue;  // of one side only
    const auto width = static_cast<size_t>(op->width);
    a.resize(rows * width);
    b.resize(rows * width);
    forward.read(seen.output, a);
    reference.read(seen.name, b);
    for (size_t row = 0; row < rows; ++row)
      op->difference.add(std::span(a).subspan(row * width, width), std::span(b).subspan(row * width, width));
    ++op;
  }
}

Comparison compare(Generator& generator, const std::vector<TokenId>& tokens, Reference& reference, const Generator::Progress& progress) {
  Forward forward(generator, tokens);
  Comparison comparison;
  const auto total = static_cast<int64_t>(tokens.size());
  while (comparison.tokens < total) {
    if (progress) progress(comparison.tokens, total);
    const int64_t done = forward.step();
    reference.follow(done);
    if (comparison.tokens == 0) comparison = matched(forward.seen(), reference);
    add_rows(comparison, forward, reference, static_cast<size_t>(done - comparison.tokens));
    comparison.tokens = done;
  }
  if (progress) progress(total, total);
  return comparison;
}

}  // namespace

const OpComparison* first_below(const Comparison& comparison, double threshold) {
  const auto found =
      std::find_if(comparison.ops.begin(), comparison.ops.end(), [&](const OpComparison& op) { return op.difference.pcc() < threshold; });
  return found == comparison.ops.end() ? nullptr : &*found;
}

Comparison compare_forwards(Generator& a, Generator& b, const std::vector<TokenId>& tokens, const Generator::Progress& progress) {
  ForwardReference reference(b, tokens);
  return compare(a, tokens, reference, progress);
}

Comparison compare_with_recording(Generator& a, const RecordedRows& b, const Generator::Progress& progress) {
  RecordedReference reference(b);
  return compare(a, b.tokens(), reference, progress);
}

}  // namespace tessera
