#pragma once
// The "post_processor" of a tokenizer.json: what is put before and behind the ids of one text. TemplateProcessing, ByteLevel, Sequence.
#include <vector>

#include "core/types.h"
#include "text/fields.h"

namespace tessera::text {

class PostProcessor {
 public:
  PostProcessor() = default;  // puts nothing
  // Every id of a template is below `end_id`.
  PostProcessor(const Fields& fields, TokenId end_id) { add(fields, end_id, 0); }

  const std::vector<TokenId>& before() const { return before_; }
  const std::vector<TokenId>& behind() const { return behind_; }

 private:
  void add(const Fields& fields, TokenId end_id, int depth);
  void add_template(const Fields& fields, TokenId end_id);

  std::vector<TokenId> before_, behind_;
};

}  // namespace tessera::text
