#pragma once
#include <cstdint>
#include <memory>
#include <span>

#include "core/types.h"

namespace tessera {

// One row's scores in the order of falling probability, equal ones in order of their ids, of which no more is sorted than is asked for.
// A score's weight is exp((score - largest) / temperature). The same bits on every machine.
class ScoreOrder {
 public:
  // The place of a token, and the weights of all that come before it, counted from the end that was asked for.
  struct Place {
    float score;
    TokenId token;
    double before;

    bool comes_before(float other, TokenId id) const { return score > other || (score == other && token < id); }
  };

  // `largest` of `scores`, which are not NaN and not +infinity and must live as long as this; a temperature above 0.
  ScoreOrder(std::span<const float> scores, float largest, double temperature);

  double total() const { return total_; }  // of all weights

  // The first with which the weights add up to more than `sum`, from the most probable on or from the least probable; the last of these
  // with a weight above 0 if all do not.
  Place from_first(double sum) const;
  Place from_last(double sum) const;

  // The least score with a weight of at least `weight` in (0, 1], and the weights of all lower scores.
  Place at_least(double weight) const;

 private:
  struct Window;
  struct Scored {
    float score;
    TokenId token;
    double weight;
  };

  std::shared_ptr<const Window> window(int index) const;
  Place walk(double sum, int first, int step, auto comes_first) const;

  std::span<const float> scores_;
  double largest_, temperature_;
  std::shared_ptr<const Window> first_;
  double total_ = 0;
};

}  // namespace tessera
