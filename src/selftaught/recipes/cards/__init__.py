"""The cards of all recipes, a module a family."""
