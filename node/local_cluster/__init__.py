"""Several nodes and workers as processes of one machine: started, watched, killed, brought back.

What runs is the same `perdure server` and `perdure worker` that anybody starts. Ports (`ports`),
what a directory holds (`directory`), one process (`processes`, `child`), all of them (`launcher`),
and what their admin doors say put together (`answers`, `watch`, `picture`).
"""
