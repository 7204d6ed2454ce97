// A small map that forgets its oldest entries.
#pragma once
#include <cstddef>
#include <deque>
#include <unordered_map>
#include <utility>

namespace indra {

template <class Key, class Value, class Hash>
class Recent {
 public:
  explicit Recent(std::size_t limit) : limit_{limit} {}
  [[nodiscard]] const Value* find(const Key& k) const {
    const auto it = map_.find(k);
    return it == map_.end() ? nullptr : &it->second;
  }
  void put(Key k, Value v) {
    const auto [it, fresh] = map_.insert_or_assign(k, std::move(v));
    if (!fresh) return;
    order_.push_back(std::move(k));
    if (order_.size() > limit_) {
      map_.erase(order_.front());
      order_.pop_front();
    }
  }

 private:
  std::size_t limit_;
  std::unordered_map<Key, Value, Hash> map_;
  std::deque<Key> order_;
};

}  // namespace indra
