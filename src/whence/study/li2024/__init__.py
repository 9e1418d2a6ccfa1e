"""The study of "Do Influence Functions Work on Large Language Models?" (arXiv 2409.19998), run again."""
